"""The Perl program that asks services over plain sockets, as text. Runs on any node: perl-base is essential in Debian.

Its argument is the seconds that one request may take. A line of its input is one ask: service, kind (http, tcp, udp), 1 to hold all
connections, VIP, port, requests, first source port or 0, source addresses. A line of its output is one request: service, source address
and port («-» and 0 where there is none), «ok» and who answered or «failed» and why.
"""

from __future__ import annotations

SCRIPT = r"""
use strict; use warnings;
use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6);
use Errno qw(EINPROGRESS EAGAIN EADDRINUSE);
my $timeout = shift;
my $patience = 3;    # requests without an answer, one after another, before the rest of an ask is given up
$SIG{PIPE} = 'IGNORE';

sub six { return index($_[0], ':') >= 0 }

sub packed {
    my ($address, $port) = @_;
    return six($address) ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address)) : pack_sockaddr_in($port, inet_aton($address));
}

sub reason { return $!{EINPROGRESS} || $!{EAGAIN} ? "no answer within $timeout s" : "$!" }

# A connected socket, or undef and the reason. The source port is known even of a connection that was refused.
sub opened {
    my ($ask, $number) = @_;
    my ($vip, $udp) = ($ask->{vip}, $ask->{kind} eq 'udp');
    my @sources = @{$ask->{sources}};
    my $source = @sources ? $sources[$number % @sources] : six($vip) ? '::' : '0.0.0.0';
    socket(my $socket, six($vip) ? AF_INET6 : AF_INET, $udp ? SOCK_DGRAM : SOCK_STREAM, 0) or return (undef, reason());
    setsockopt($socket, SOL_SOCKET, $_, pack('l!l!', $timeout, 0)) for SO_RCVTIMEO, SO_SNDTIMEO;
    my $port = $ask->{first} ? $ask->{first} + $number : 0;
    bind($socket, packed($source, $port)) or ($!{EADDRINUSE} and bind($socket, packed($source, 0))) or return (undef, reason());
    connect($socket, packed($vip, $ask->{port})) and return ($socket, '');
    return ($socket, reason());
}

sub own {
    my ($socket) = @_;
    my $name = $socket && getsockname($socket) or return '- 0';
    my $family = sockaddr_family($name);
    my ($port, $address) = $family == AF_INET6 ? unpack_sockaddr_in6($name) : unpack_sockaddr_in($name);
    return inet_ntop($family, $address) . " $port";
}

sub rest {
    my ($socket) = @_;
    my $text = '';
    while (1) {
        my $read = sysread($socket, $text, 65536, length $text);
        return ($text, reason()) if !defined $read;
        return ($text, '') if !$read;
    }
}

# Each gives who answered, and why nobody did.
my %talk = (
    tcp => sub { return ('', '') },
    udp => sub {
        my ($socket) = @_;
        defined send($socket, "name\n", 0) or return ('', reason());
        defined recv($socket, my $text, 512, 0) or return ('', reason());
        return ((split /\r?\n/, $text)[0] // '', '');
    },
    http => sub {
        my ($socket, $vip) = @_;
        my $host = six($vip) ? "[$vip]" : $vip;
        syswrite($socket, "GET / HTTP/1.0\r\nHost: $host\r\nConnection: close\r\n\r\n") or return ('', reason());
        my ($text, $why) = rest($socket);
        return ('', $why) if $why;
        my ($head, $body) = split /\r?\n\r?\n/, $text, 2;
        my ($status) = ($head // '') =~ m{^HTTP/\S+ (\d+)} or return ('', 'the answer is not HTTP');
        return ('', "HTTP status $status") if $status != 200;
        return ((grep { length } split /\r?\n/, $body // '')[0] // '', '');
    },
);

sub answer {
    my ($ask, $socket, $why) = @_;
    my $own = own($socket);
    my $name = '';
    ($name, $why) = $talk{$ask->{kind}}->($socket, $ask->{vip}) if !$why;
    print "$ask->{service} $own ", $why ? "failed $why" : "ok $name", "\n";
    return $why;
}

sub ask {
    my ($ask) = @_;
    my ($silent, @open) = (0);
    my $heard = sub { $silent = $_[0] =~ /^no answer/ ? $silent + 1 : 0 };
    for my $number (0 .. ($ask->{held} ? $ask->{requests} : 0) - 1) {
        last if $silent >= $patience;
        push @open, [opened($ask, $number)];
        $heard->($open[-1][1]);
    }
    for my $number (0 .. $ask->{requests} - 1) {
        if ($silent >= $patience && !$open[$number]) {
            print "$ask->{service} - 0 failed not asked any more after $patience without an answer\n";
            next;
        }
        $heard->(answer($ask, @{$open[$number] // [opened($ask, $number)]}));
    }
}

while (my $line = <STDIN>) {
    my %ask;
    (@ask{qw(service kind held vip port requests first)}, my @sources) = split ' ', $line;
    $ask{sources} = \@sources;
    ask(\%ask);
}
"""
