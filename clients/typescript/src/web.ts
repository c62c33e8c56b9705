/** Bridle from a browser, over the gateway of control: Connect, or gRPC-Web. */
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";

import { isLoopback } from "./address.js";
import { Client, type Settings } from "./client.js";

export * from "./index.js";

export interface WebSettings extends Settings {
  /** Default "connect". Both stream. */
  readonly protocol?: "connect" | "grpc-web";
  /** Plaintext to an address that is not loopback: everybody between reads the token. */
  readonly plaintext?: boolean;
}

/** A client of the gateway at `baseUrl`, such as "https://bridle.example". */
export function connect(baseUrl: string, settings: WebSettings): Client {
  const { protocol, hostname } = new URL(baseUrl, globalThis.location?.href);
  if (protocol !== "https:" && settings.plaintext !== true && !isLoopback(hostname)) {
    throw new Error(`${baseUrl}: without TLS everybody between reads the token; https:, or plaintext: true`);
  }
  const make = settings.protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  return new Client(settings, (interceptors) => make({ baseUrl, interceptors }));
}
