/** Bridle from a browser, over the gateway of control: Connect, or gRPC-Web. */
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";

import { Client, type Settings } from "./client.js";

export * from "./index.js";

export interface WebSettings extends Settings {
  /** Default "connect". Both stream. */
  readonly protocol?: "connect" | "grpc-web";
}

/** A client of the gateway at `baseUrl`, such as "https://bridle.example". */
export function connect(baseUrl: string, settings: WebSettings): Client {
  const make = settings.protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
  return new Client(settings, (interceptors) => make({ baseUrl, interceptors }));
}
