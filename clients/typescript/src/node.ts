/** Bridle from Node, over gRPC. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { isLoopback } from "./address.js";
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

/** A client of the control at `address`, "host:port". It connects at the first call; close it in the end. */
export function connect(address: string, settings: NodeSettings): Client {
  const host = /^([\w.-]+|\[[\da-fA-F:.]+\]):\d+$/.exec(address)?.[1];
  if (host === undefined) throw new Error(`${JSON.stringify(address)} is no address, which is HOST:PORT`);
  const ca = settings.authority === undefined ? undefined : certificate(settings.authority);
  const plain = ca === undefined && (settings.plaintext === true || isLoopback(host));
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

/** What the file holds. (Node itself would take anything, and never trust anybody.) */
function certificate(file: string): string {
  const content = readFileSync(file, "utf8");
  try {
    new X509Certificate(content);
  } catch (cause) {
    throw new Error(`${file}: no certificate of an authority (PEM)`, { cause });
  }
  return content;
}

/**
 * A client as BRIDLE_ADDRESS, BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA and BRIDLE_INSECURE
 * say; inside a session (BRIDLE_SESSION is set) the token is the session's own, of the file.
 */
export function connectFromEnvironment(settings: Partial<NodeSettings> = {}): Client {
  const { BRIDLE_ADDRESS, BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA, BRIDLE_INSECURE, BRIDLE_SESSION } =
    process.env;
  const file = BRIDLE_TOKEN_FILE ? () => readFileSync(BRIDLE_TOKEN_FILE, "ascii").trim() : undefined;
  const token = settings.token ?? ((BRIDLE_SESSION ? undefined : BRIDLE_TOKEN) || file || BRIDLE_TOKEN);
  if (!token) throw new Error("neither BRIDLE_TOKEN nor BRIDLE_TOKEN_FILE is set");
  return connect(BRIDLE_ADDRESS || defaultAddress, {
    plaintext: /^(1|true|yes|on)$/i.test(BRIDLE_INSECURE ?? ""),
    ...(BRIDLE_TLS_CA ? { authority: BRIDLE_TLS_CA } : {}),
    ...settings,
    token,
  });
}
