/**
 * Bridle for TypeScript: steer running AI agents.
 *
 * `@bridle/client/node` connects from Node, over gRPC; `@bridle/client/web` from a browser (or from
 * anywhere), over Connect or gRPC-Web. Both give a `Client`; the messages are in `@bridle/client/v1`,
 * whose comments are the specification.
 */
export { Client, content, session, type Settings } from "./client.js";
export { failureOf, reasonOf, type Failure } from "./errors.js";
export type { TokenSource } from "./token.js";
export { defaultRetry, type Retry } from "./retry.js";
export { Watch, type Update, type WatchOptions } from "./watch.js";
