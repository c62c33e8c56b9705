"""The browser gateway: Connect and gRPC-Web beside gRPC, on a port of its own.

A call that comes by HTTP goes through the same gate, to the same handlers, as one that comes by
gRPC: same rights, same errors with their details, same audit log, same Watch. What is here only
carries: the protocols are connectrpc's, HTTP is uvicorn's.

    messages.py      requests and answers as they come and go: bytes, or JSON
    exchange.py      a call by HTTP in the shape in which the gate and the handlers know calls
    calls.py         the contract's methods as connectrpc's endpoints
    connections.py   how long a connection may take to say what it wants
    server.py        the HTTP server: origins, TLS, its start and its end
"""
