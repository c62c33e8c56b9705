/** Bridle from Node, over gRPC. */
import { readFileSync } from "node:fs";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { Client, type Settings } from "./client.js";

export * from "./index.js";

/** Where control listens unless it was told otherwise. */
export const defaultAddress = "127.0.0.1:7420";

export interface NodeSettings extends Settings {
  /** The file, PEM, with the certificate authority of control. */
  readonly authority?: string;
  /** Plaintext to an address that is not loopback: everybody between reads the token. */
  readonly plaintext?: boolean;
}

/** A client of the control at `address`, "host:port". It connects at the first call. */
export function connect(address: string, settings: NodeSettings): Client {
  const ca = settings.authority === undefined ? undefined : readFileSync(settings.authority);
  const plain = ca === undefined && (settings.plaintext === true || isLoopback(address));
  const baseUrl = `${plain ? "http" : "https"}://${address}`;
  // Without the pings a peer that froze goes unnoticed for minutes.
  const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 5_000, pingIdleConnection: true };
  const sessionManager = new Http2SessionManager(baseUrl, pings, ca === undefined ? {} : { ca });
  return new Client(
    settings,
    (interceptors) => createGrpcTransport({ baseUrl, interceptors, sessionManager }),
    () => sessionManager.abort(),
  );
}

/**
 * A client as BRIDLE_ADDRESS, BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA and BRIDLE_INSECURE
 * say; inside a session that is the session's own identity.
 */
export function connectFromEnvironment(settings: Partial<NodeSettings> = {}): Client {
  const { BRIDLE_ADDRESS, BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA, BRIDLE_INSECURE } = process.env;
  const token =
    BRIDLE_TOKEN || (BRIDLE_TOKEN_FILE ? () => readFileSync(BRIDLE_TOKEN_FILE, "ascii").trim() : undefined);
  if (token === undefined) throw new Error("neither BRIDLE_TOKEN nor BRIDLE_TOKEN_FILE is set");
  return connect(BRIDLE_ADDRESS || defaultAddress, {
    token,
    plaintext: /^(1|true|yes|on)$/i.test(BRIDLE_INSECURE ?? ""),
    ...(BRIDLE_TLS_CA ? { authority: BRIDLE_TLS_CA } : {}),
    ...settings,
  });
}

function isLoopback(address: string): boolean {
  const host = address.replace(/:\d+$/, "");
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
