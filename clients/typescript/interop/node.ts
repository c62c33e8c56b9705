/** The runner in Node: lines on standard input and output. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client } from "@bridle/client";
import { connect, connectFromEnvironment } from "@bridle/client/node";
import { tracing } from "@bridle/client/tracing";

import { Runner, type Order } from "./runner.js";

function dial({ address, token: given, token_file: file, authority, transport, environment }: Order): Client {
  if (environment === true) return connectFromEnvironment();
  const token = file === undefined ? given : () => readFileSync(file, "utf8").trim();
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
