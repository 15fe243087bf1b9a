"""The DHCP engine: who is asking, which address, which boot file, and where the answer must go.

Cores (`packet`, `options`, `pxe`, `leases`, `subnets`, `responder`) take values and `now` and return values;
`server` is the asyncio shell that owns the sockets. The engine imports nothing of the appliance: it asks its
questions through the Protocols `responder.BootChoice`, `leases.LeaseStore` and `neighbours.Neighbours`.
"""
