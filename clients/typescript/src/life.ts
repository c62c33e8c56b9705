/** What is open, so that it ends with its client. */
import { Code, ConnectError } from "@connectrpc/connect";

/** How long a client lives. */
export class Life {
  readonly #open = new Set<AbortController>();
  #over = false;

  /** A controller that is aborted when the client is closed; `done` when it is no longer needed. */
  begin(): AbortController {
    const controller = new AbortController();
    if (this.#over) controller.abort(closed());
    else this.#open.add(controller);
    return controller;
  }

  done(controller: AbortController): void {
    this.#open.delete(controller);
  }

  end(): void {
    this.#over = true;
    for (const controller of this.#open) controller.abort(closed());
    this.#open.clear();
  }
}

function closed(): ConnectError {
  return new ConnectError("the client is closed", Code.Canceled);
}

/** Settles as what is awaited does; rejects as soon as the signal is aborted. */
export function raced<T>(awaited: T | Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(reasonFor(signal));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
    void Promise.resolve(awaited)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", stop));
  });
}

/** What to throw where a signal has ended something. */
export function reasonFor(signal: AbortSignal, cause?: unknown): ConnectError {
  if (signal.reason instanceof ConnectError) return signal.reason;
  return new ConnectError("cancelled", Code.Canceled, undefined, undefined, cause);
}
