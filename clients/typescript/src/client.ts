/** The client: the contract's services over one transport, and watches that outlive it. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Client as Stub, type Interceptor, type Transport } from "@connectrpc/connect";

import { ContentSchema, type Content } from "./gen/bridle/v1/content_pb.js";
import { HostService } from "./gen/bridle/v1/host_service_pb.js";
import { IdentityService } from "./gen/bridle/v1/identity_service_pb.js";
import { SessionRefSchema, type SessionRef } from "./gen/bridle/v1/session_pb.js";
import { SessionService } from "./gen/bridle/v1/session_service_pb.js";
import type { WatchRequestSchema } from "./gen/bridle/v1/watch_pb.js";
import { guard, type Control } from "./guard.js";
import { Life } from "./life.js";
import { defaultRetry, type Retry } from "./retry.js";
import { checked, type TokenSource } from "./token.js";
import { Watch, type WatchOptions } from "./watch.js";

export interface Settings {
  /** The token, or what gives it. */
  readonly token: string | TokenSource;
  readonly retry?: Retry;
  /**
   * Interceptors beside the client's own, for traces, say (see tracing.ts). They see each try of a
   * call and each connection of a watch.
   */
  readonly interceptors?: readonly Interceptor[];
}

/** The stubs are the generated ones; the client adds tokens, request ids, tries and watches. */
export class Client {
  readonly sessions: Stub<typeof SessionService>;
  readonly hosts: Stub<typeof HostService>;
  readonly identities: Stub<typeof IdentityService>;
  readonly transport: Transport;
  readonly #token: TokenSource;
  readonly #retry: Retry;
  readonly #life = new Life();
  readonly #control: Control = { known: false };
  readonly #disconnect: () => void;

  /** `connect` makes a transport that has the given interceptors; `disconnect` ends its connection. */
  constructor(
    settings: Settings,
    connect: (interceptors: Interceptor[]) => Transport,
    disconnect: () => void = () => {},
  ) {
    this.#token = checked(settings.token);
    this.#retry = settings.retry ?? defaultRetry;
    this.#disconnect = disconnect;
    const own = guard(this.#token, this.#retry, this.#life, this.#control);
    this.transport = connect([own, ...(settings.interceptors ?? [])]);
    this.sessions = createClient(SessionService, this.transport);
    this.hosts = createClient(HostService, this.transport);
    this.identities = createClient(IdentityService, this.transport);
  }

  /** Begins with the first update that is asked for; targets begin where their cursors say. */
  watch(request: MessageInitShape<typeof WatchRequestSchema>, options: WatchOptions = {}): Watch {
    return new Watch(request, {
      options, sessions: this.sessions, token: this.#token, retry: this.#retry, life: this.#life,
      control: this.#control,
    });
  }

  /**
   * Ends the connection, if there is one, and all calls and watches with Canceled, as all that come
   * later. An open watch keeps a program in Node alive until then.
   */
  close(): void {
    this.#life.end();
    this.#disconnect();
  }
}

/** A session by its slug. */
export function session(slug: string): SessionRef {
  return create(SessionRefSchema, { ref: { case: "slug", value: slug } });
}

/** A session by its id, which never changes and is never used again. */
session.byId = (id: string): SessionRef => create(SessionRefSchema, { ref: { case: "id", value: id } });

/** A text as content. */
export function content(text: string): Content[] {
  return [create(ContentSchema, { kind: { case: "text", value: text } })];
}
