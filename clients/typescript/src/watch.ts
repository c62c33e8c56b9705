/**
 * Watching: a stream of events that outlives its connections.
 *
 * A `Watch` keeps the cursor of each session, and opens the stream again from there when the
 * connection is lost: over any number of losses each event comes once and in order. What it can't
 * promise it throws: CURSOR_COMPACTED, CURSOR_FOREIGN, SESSION_NOT_FOUND and so on.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type CallOptions, type Client as Stub } from "@connectrpc/connect";

import { failureOf } from "./errors.js";
import type { Control } from "./guard.js";
import type { Event } from "./gen/bridle/v1/event_pb.js";
import { SessionRefSchema, type SessionRef } from "./gen/bridle/v1/session_pb.js";
import type { SessionService } from "./gen/bridle/v1/session_service_pb.js";
import {
  WatchRequestSchema,
  WatchTargetSchema,
  type Compacted,
  type EventBatch,
  type LiveText,
  type Progress,
  type WatchRequest,
  type WatchResponse,
  type WatchTarget,
} from "./gen/bridle/v1/watch_pb.js";
import { raced, reasonFor, type Life } from "./life.js";
import { delay, isBroken, isLost, pause, type Retry } from "./retry.js";
import { renewed, type TokenSource } from "./token.js";

/** Milliseconds without a word from control, which says something every 15 s, that mean a loss. */
const SILENCE = 30_000;
/**
 * Milliseconds that control gets to end the stream of a watch that has told everything: it does at
 * once, but on a busy machine anybody may pause for some.
 */
const CLOSING = 10_000;
/** Gaps in a row, each seen after a new connection, that show a broken log and not a bad moment. */
const GAPS_CAP = 5;
/** Failures in a row before the first answer, after which a watch gives up; but see Retry.patience. */
const FIRST_TRIES = 5;

/** One thing that a watch tells; `sessionId` is empty where it is about the connection. */
export type Update = { readonly sessionId: string } & (
  | { readonly kind: "event"; readonly event: Event }
  | { readonly kind: "liveText"; readonly liveText: LiveText }
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "compacted"; readonly compacted: Compacted }
  /** The stream is open, for the first time or again. */
  | { readonly kind: "connected" }
  /** The connection was lost, and the watch goes on trying. */
  | { readonly kind: "disconnected"; readonly error: unknown }
);

/** `signal` ends the watch when it is aborted; the others go with each of its connections. */
export type WatchOptions = Readonly<Pick<CallOptions, "signal" | "headers" | "contextValues">>;

/** Of one watch: its signal is there, and ends it for whatever reason. */
type Given = WatchOptions & { readonly signal: AbortSignal };

export interface WatchSettings {
  readonly options: WatchOptions;
  readonly sessions: Stub<typeof SessionService>;
  readonly token: TokenSource;
  readonly retry: Retry;
  readonly life: Life;
  readonly control: Control;
}

/** Something between two events did not come: the stream can't be trusted any further. */
function gap(sequence: bigint): ConnectError {
  return new ConnectError(`a gap after event ${sequence}`, Code.DataLoss);
}

/** One session of a watch and how far it was told. */
class Target {
  ref: SessionRef;
  logId: string;
  ended = false;
  /** The last sequence told; undefined while only a tail was asked for. */
  #cursor: bigint | undefined;
  readonly #tail: number;
  /** It begins at the floor, wherever that is, and nothing of it was told yet. */
  #fromFloor: boolean;

  constructor(from: WatchTarget) {
    this.ref = from.session ?? create(SessionRefSchema);
    this.logId = from.logId;
    this.#tail = from.start.case === "tail" ? from.start.value : 0;
    this.#cursor = from.start.case === "tail" ? undefined : (from.start.value ?? 0n);
    this.#fromFloor = this.#cursor === 0n;
  }

  get cursor(): bigint | undefined {
    return this.#cursor;
  }

  get sessionId(): string {
    return this.ref.ref.case === "id" ? this.ref.ref.value : "";
  }

  pin(sessionId: string): void {
    const { workspace } = this.ref;
    this.ref = create(SessionRefSchema, { workspace, ref: { case: "id", value: sessionId } });
  }

  advance(sequence: bigint): void {
    this.#cursor = max(this.#cursor ?? 0n, sequence);
    this.#fromFloor &&= sequence === 0n;
  }

  beginAt(floor: bigint): void {
    this.#cursor = max(this.#cursor ?? 0n, floor - 1n);
  }

  request(): WatchTarget {
    // Not from behind the floor that it was told of: that may have risen since.
    const afterSequence = this.#fromFloor ? 0n : this.#cursor;
    return create(WatchTargetSchema, {
      session: this.ref,
      logId: this.logId,
      start:
        afterSequence === undefined
          ? { case: "tail", value: this.#tail }
          : { case: "afterSequence", value: afterSequence },
    });
  }
}

/** Use it once: `for await (const event of watch)`, or over `updates()` for all that it tells. */
export class Watch implements AsyncIterable<Event> {
  readonly #request: WatchRequest;
  readonly #settings: WatchSettings;
  readonly #targets: Target[];
  #fresh = true; // nothing of the current stream was seen yet
  #gaps = 0;
  #renewed = 0; // times in a row that it was refused, and found another token

  constructor(request: MessageInitShape<typeof WatchRequestSchema>, settings: WatchSettings) {
    this.#request = create(WatchRequestSchema, request);
    this.#settings = settings;
    this.#targets = this.#request.targets.map((target) => new Target(target));
  }

  /** The targets as they would have to be asked for to go on behind what was told. */
  get cursors(): WatchTarget[] {
    return this.#targets.map((target) => target.request());
  }

  /** The events alone. Leaving the loop, `return()` and `throw()` end the watch at once. */
  [Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    const stop = new AbortController();
    return stoppable(this.#events(stop.signal), stop);
  }

  /** Everything that the watch tells, for all of its sessions; ends as the events do. */
  updates(): AsyncGenerator<Update, void, undefined> {
    const stop = new AbortController();
    return stoppable(this.#updates(stop.signal), stop);
  }

  async *#events(stop: AbortSignal): AsyncGenerator<Event, void, undefined> {
    for await (const update of this.#updates(stop)) if (update.kind === "event") yield update.event;
  }

  /** Until the reader has enough, or whoever made the watch or its client ends it. */
  async *#updates(stop: AbortSignal): AsyncGenerator<Update, void, undefined> {
    const { options, life } = this.#settings;
    const { signal: outer } = options;
    const open = life.begin();
    const end = () => open.abort(outer?.reason);
    if (outer?.aborted) end();
    outer?.addEventListener("abort", end);
    try {
      yield* this.#run({ ...options, signal: AbortSignal.any([open.signal, stop]) });
    } catch (error) {
      if (stop.aborted) return;
      throw open.signal.aborted ? reasonFor(open.signal, error) : error;
    } finally {
      outer?.removeEventListener("abort", end);
      life.done(open);
    }
  }

  async *#run(options: Given): AsyncGenerator<Update, void, undefined> {
    const { token, retry, control } = this.#settings;
    const { signal } = options;
    const patience = Date.now() + retry.patience;
    const ask = () => raced(token(), signal);
    let connected = false;
    for (let attempt = 0; ; ) {
      let lost: unknown;
      let sent: string | undefined;
      try {
        sent = await ask();
        for await (const update of this.#stream(options)) {
          if (this.#fresh) {
            this.#fresh = false;
            connected = true;
            attempt = this.#renewed = 0;
            yield { sessionId: "", kind: "connected" };
          }
          yield update;
        }
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        attempt++;
        const patient = control.known && isLost(error) && Date.now() < patience;
        const hopes = connected || attempt < FIRST_TRIES || patient;
        if (!(await this.#goesOn(error, sent, ask)) || !hopes) throw error;
        lost = error;
      }
      if (connected) yield { sessionId: "", kind: "disconnected", error: lost };
      await pause(delay(retry, attempt, lost), signal);
    }
  }

  async #goesOn(error: unknown, sent: string | undefined, token: TokenSource): Promise<boolean> {
    const { code } = ConnectError.from(error);
    if (code === Code.DataLoss && failureOf(error) === undefined) return ++this.#gaps < GAPS_CAP;
    if (await renewed(error, token, sent)) return ++this.#renewed < FIRST_TRIES;
    return isBroken(error);
  }

  /**
   * Fixes which sessions are meant, so that a slug that is deleted and taken again in between does
   * not mix two logs. One alone is told by the first answer.
   */
  async #pinAll(options: CallOptions): Promise<void> {
    if (this.#targets.length < 2) return;
    for (const target of this.#targets.filter((each) => each.sessionId === "")) {
      const got = await this.#settings.sessions.getSession({ session: target.ref }, options);
      target.pin(got.session?.sessionId ?? "");
    }
  }

  /** One connection, until all targets have ended. Throws where it is lost. */
  async *#stream(given: Given): AsyncGenerator<Update, void, undefined> {
    this.#fresh = true;
    const silent = new AbortController();
    const signal = AbortSignal.any([given.signal, silent.signal]);
    const options = { ...given, signal };
    try {
      await this.#pinAll(options);
      const { until, kinds, liveText } = this.#request;
      const targets = this.#targets.filter((target) => !target.ended).map((target) => target.request());
      const answers = this.#settings.sessions.watch({ targets, until, kinds, liveText }, options);
      const iterator = answers[Symbol.asyncIterator]();
      // (Of no targets at all none has ended: control refuses them.)
      while (this.#targets.length === 0 || !this.#targets.every((target) => target.ended)) {
        // Only the wait counts: time that the reader takes is not control's silence.
        const clock = setTimeout(() => silent.abort("silence"), SILENCE);
        const answer = await iterator.next().finally(() => clearTimeout(clock));
        if (answer.done) throw new ConnectError("control broke off", Code.Unavailable);
        yield* this.#take(answer.value);
      }
      // Control ends the stream now. One that is broken off instead counts as failed: in traces, say.
      const clock = setTimeout(() => silent.abort("done"), CLOSING);
      await iterator.next().catch(() => undefined).finally(() => clearTimeout(clock));
    } catch (error) {
      if (silent.signal.aborted && failureOf(error) === undefined) {
        throw new ConnectError("nothing from control for 30 s", Code.Unavailable, undefined, undefined, error);
      }
      throw error;
    } finally {
      silent.abort("done");
    }
  }

  /** What an answer tells that was not told before. */
  *#take({ response }: WatchResponse): Generator<Update, void, undefined> {
    switch (response.case) {
      case "events":
        yield* this.#takeEvents(response.value);
        break;
      case "progress": {
        const progress = response.value;
        const target = this.#target(progress.sessionId, progress.logId);
        if (target.cursor === undefined || this.#request.kinds.length > 0) {
          target.advance(progress.sequence); // Where a tail begins, or what `kinds` left out.
        } else if (progress.sequence > target.cursor) {
          throw gap(target.cursor);
        }
        target.ended ||= progress.ended;
        yield { sessionId: target.sessionId, kind: "progress", progress };
        break;
      }
      case "compacted": {
        const compacted = response.value;
        const target = this.#target(compacted.sessionId, compacted.logId);
        target.beginAt(compacted.floorSequence);
        yield { sessionId: target.sessionId, kind: "compacted", compacted };
        break;
      }
      case "liveText":
        yield { sessionId: response.value.sessionId, kind: "liveText", liveText: response.value };
    }
  }

  *#takeEvents(batch: EventBatch): Generator<Update, void, undefined> {
    const target = this.#target(batch.sessionId, batch.logId);
    for (const event of batch.events) {
      if (target.cursor !== undefined) {
        if (event.sequence <= target.cursor) continue; // Told already, over an earlier connection.
        if (event.sequence !== target.cursor + 1n && this.#request.kinds.length === 0) {
          throw gap(target.cursor);
        }
      }
      target.advance(event.sequence);
      this.#gaps = 0;
      yield { sessionId: target.sessionId, kind: "event", event };
    }
  }

  #target(sessionId: string, logId: string): Target {
    const found = this.#targets.find((target) => target.sessionId === sessionId);
    const target = found ?? this.#targets[0]; // Several were pinned before.
    if (target === undefined) throw new ConnectError("an answer about no session", Code.Internal);
    if (found === undefined) {
      target.pin(sessionId);
      target.logId = logId;
    }
    target.logId ||= logId;
    return target;
  }
}

/** A generator that `return()` and `throw()` end although it waits; on its own it would go on waiting. */
function stoppable<T>(
  inner: AsyncGenerator<T, void, undefined>, stop: AbortController,
): AsyncGenerator<T, void, undefined> {
  const end = (): Promise<IteratorResult<T, void>> => {
    stop.abort();
    return inner.return();
  };
  return Object.assign(Object.create(Object.getPrototypeOf(inner) as object) as typeof inner, {
    next: () => inner.next(),
    return: end,
    throw: async (error: unknown) => {
      await end();
      throw error;
    },
  });
}

function max(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}
