"""The benchmark: slmgate beside the proxies and gateways that its users would otherwise run.

`python -m bench` measures; docs/benchmarks.md says how and why. Nothing here is imported by the product, and this
package knows the product only as one more process that answers HTTP (`bench.rooms`, which times its rooms, excepted).
"""
