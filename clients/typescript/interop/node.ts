/** The runner in Node: lines on standard input and output. */
import { createInterface } from "node:readline";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "@bridle/client";
import { connect } from "@bridle/client/node";
import { tracing } from "@bridle/client/tracing";

import { Runner, type Order } from "./runner.js";

function dial({ address, token, authority, transport }: Order): Client {
  const settings = { token, interceptors: [tracing()] };
  if (transport === undefined || transport === "grpc") {
    return connect(address, authority === undefined ? settings : { ...settings, authority });
  }
  const make = transport === "connect" ? createConnectTransport : createGrpcWebTransport;
  return new Client(settings, (interceptors) =>
    make({ baseUrl: address, httpVersion: "1.1", interceptors }),
  );
}

const runner = new Runner((line) => process.stdout.write(`${line}\n`), dial);
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => runner.take(line));
lines.on("close", () => process.exit(0));
