"""A lab whose services use every key there is, as a file and completed."""

from __future__ import annotations

from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse

TEXT = """\
vlab: 1
name: keys
networks:
  front: {subnet: 10.20.0.0/24}
  back: {subnet: 10.30.0.0/24}
groups:
  web: {count: 2, virt: container, image: web, networks: [back]}
  db: {count: 2, virt: container, image: db, networks: [back]}
  spare: {virt: container, image: web, networks: [back]}
  client: {virt: container, image: client, networks: [front]}
directors:
  lvs:
    networks: [front, back]
    services:
      www: {vip: 10.20.0.100, ports: [80, 443, "8000-8001"], mode: nat, scheduler: sh, scheduler_flags: [sh-port, sh-fallback],
            real_servers: web, check: {http: /health, port: 80}}
      shop: {vip: 10.20.0.101, ports: [80, 443, "40000-40100"], fwmark: 7, mode: nat, real_servers: web, check: tcp,
             persistence: {timeout: 300 s, netmask: 24}, sorry_server: spare1, quorum: 2}
      sql: {vip: 10.30.0.200, port: 3306, mode: dr, real_servers: db, upper_threshold: 100, lower_threshold: 80,
            upper_thresholds: {db2: 50}, lower_thresholds: {db2: 0}, sorry_server: spare1,
            check: {login: {user: lab, password: "l b", database: lab}}}
      log: {vip: 10.30.0.201, port: 514, protocol: udp, mode: dr, scheduler: rr, one_packet: true, real_servers: db}
      names: {vip: 10.30.0.201, port: 53, protocol: udp, mode: dr, real_servers: db, fwmark: auto, check: {dns: www.example.org}}
      jobs: {vip: 10.30.0.202, ports: [7000, 7001], mode: dr, real_servers: db,
             check: {misc: "/usr/lib/vlab/my-check --port={port} {address}", timeout: 1500 ms}}
"""


def keys() -> Lab:
    return complete(parse(Source("keys.yaml", TEXT)))
