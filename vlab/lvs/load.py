"""Load that runs through a failover: a request each few milliseconds, and connections that stay open. Pure.

One Perl process in the client (Debian's perl-base is essential, so every image has it; a shell could start no process each 50 ms). It
writes what happened into a file, line by line, so that whoever measures can look on; it ends when a second file appears, and
by itself when its time is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlab.topology.family import Address

EVERY = 0.05
"""Seconds between two requests: as fine as an outage is measured."""

TIMEOUT = 0.9
"""Seconds for one request: less than the first second after which TCP would send its SYN again."""

KEPT = 4
"""Connections that stay open; a question goes over each every ``KEPT_EVERY`` seconds, and has ``KEPT_TIMEOUT`` to be answered: TCP sends
again at growing intervals, the last within reach of an outage of 4 s after 6.2 s."""

KEPT_EVERY = 0.5
KEPT_TIMEOUT = 15.0

LONGEST = 180
"""Seconds after which the load ends, whoever forgot it."""

# x86-64's number of clock_gettime; CLOCK_MONOTONIC is 1.
_PERL = r"""
use strict; use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6); use Fcntl; use Errno qw(EINPROGRESS EAGAIN EINTR);
my ($vip, $port, $log, $stop, $http, $kept, $every, $timeout, $kept_every, $kept_timeout, $longest) = @ARGV;
$SIG{PIPE} = 'IGNORE';
open my $out, '>', $log or die "$log: $!\n";
select $out; $| = 1;
sub now { my $b = pack 'q2', 0, 0; syscall(228, 1, $b); my ($s, $n) = unpack 'q2', $b; $s + $n / 1e9 }
my $six = $vip =~ /:/;
my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $vip)) : pack_sockaddr_in($port, inet_aton($vip));
my $began = now();
my (%open, %kept);
sub told { printf "%s\n", join ' ', @_ }
sub at { sprintf '%.3f', $_[0] - $began }
sub dial {
    my ($kind, $id) = @_;
    socket my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0 or die "socket: $!\n";
    fcntl $s, F_SETFL, O_NONBLOCK;
    my $c = {s => $s, kind => $kind, id => $id, start => now(), state => 'dial', in => ''};
    $open{fileno $s} = $c;
    connect $s, $to or $! == EINPROGRESS or ended($c, "$!");
    return $c;
}
sub ended {
    my ($c, $why) = @_;
    delete $open{fileno $c->{s}};
    close $c->{s};
    $why =~ s/\s+/_/g;
    if ($c->{kind} eq 'r') { told('r', at($c->{start}), at(now()), $why) }
    else { delete $kept{$c->{id}}; told('d', $c->{id}, at(now()), $why) }
}
sub ask {
    my ($c) = @_;
    my $keep = $c->{kind} eq 'k';
    my $words = $keep ? "GET / HTTP/1.1\r\nHost: vlab\r\n\r\n" : "GET / HTTP/1.0\r\n\r\n";
    @$c{'state', 'in'} = ('asked', '');
    $c->{start} = now() if $keep;
    syswrite $c->{s}, $words or ended($c, "$!");
}
sub answered {
    my ($c) = @_;
    my ($head, $body) = split /\r\n\r\n/, $c->{in}, 2;
    return 0 unless defined $body and $head =~ /Content-Length: (\d+)/i;
    return length $body >= $1;
}
sub writable {
    my ($c) = @_;
    my $error = unpack 'i', getsockopt($c->{s}, SOL_SOCKET, SO_ERROR);
    if ($error) { $! = $error; return ended($c, "$!") }
    return ended($c, 'ok') if !$http;
    ask($c);
}
sub readable {
    my ($c) = @_;
    my $got = sysread $c->{s}, my $text, 65536;
    if (!defined $got) { return if $! == EAGAIN or $! == EINTR; return ended($c, "$!") }
    $c->{in} .= $text if $got;
    my $good = $c->{in} =~ m{^HTTP/1\.\d 200 };
    if ($c->{kind} eq 'r') { ended($c, $good ? 'ok' : 'closed') if !$got or answered($c); return }
    return ended($c, 'closed') if !$got;
    return if !answered($c);
    told('k', $c->{id}, at($c->{start}), at(now()));
    @$c{'state', 'next'} = ('idle', now() + $kept_every);
}
if ($http) { $kept{$_} = dial('k', $_) for 1 .. $kept }
my $next = now();
until (-e $stop or now() - $began > $longest) {
    if (now() >= $next) { dial('r', 0); $next += $every; $next = now() if $next < now() - 1 }
    my ($r, $w) = ('', '');
    for my $c (values %open) { vec($c->{state} eq 'dial' ? $w : $r, fileno $c->{s}, 1) = 1 }
    my $wait = $next - now();
    select my $rr = $r, my $ww = $w, undef, $wait > 0 ? $wait : 0;
    for my $c (values %{{%open}}) {
        my $n = fileno $c->{s};
        if ($c->{state} eq 'dial') { writable($c) if vec $ww, $n, 1 } elsif (vec $rr, $n, 1) { readable($c) }
    }
    my $t = now();
    for my $c (values %{{%open}}) {
        my $limit = $c->{kind} eq 'r' ? $timeout : $kept_timeout;
        if ($c->{state} eq 'idle') { ask($c) if $t >= $c->{next} }
        elsif ($t - $c->{start} > $limit) { ended($c, 'no_answer') }
    }
}
"""


@dataclass(frozen=True, slots=True)
class Request:
    """``start`` and ``end`` are seconds since the load began; ``why`` is «ok» or what went wrong."""

    start: float
    end: float
    why: str

    @property
    def ok(self) -> bool:
        return self.why == "ok"


@dataclass(frozen=True, slots=True)
class Record:
    """What happened so far. ``answers`` are the ends of each kept connection's exchanges, ``deaths`` when it ended and why, both by
    its number. Requests are in order of their ends."""

    requests: tuple[Request, ...] = ()
    answers: dict[int, list[float]] = field(default_factory=dict)
    deaths: dict[int, tuple[float, str]] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """When the last thing happened."""
        return self.requests[-1].end if self.requests else 0.0


def command(vip: Address, port: int, log: str, stop: str, *, http: bool) -> Sequence[str]:
    """The argv. ``http``: the requests are HTTP's, and there are kept connections; otherwise they only connect."""
    numbers = (int(http), KEPT, EVERY, TIMEOUT, KEPT_EVERY, KEPT_TIMEOUT, LONGEST)
    return ["perl", "-e", _PERL, str(vip), str(port), log, stop, *(f"{number:g}" for number in numbers)]


def parse(text: str) -> Record:
    """A log, also one whose last line is not whole yet."""
    requests: list[Request] = []
    answers: dict[int, list[float]] = {}
    deaths: dict[int, tuple[float, str]] = {}
    for line in text[: text.rfind("\n") + 1].splitlines():
        match line.split():
            case ["r", start, end, why]:
                requests.append(Request(float(start), float(end), why))
            case ["k", number, _, end]:
                answers.setdefault(int(number), []).append(float(end))
            case ["d", number, at, why]:
                deaths[int(number)] = (float(at), why)
    return Record(tuple(requests), answers, deaths)
