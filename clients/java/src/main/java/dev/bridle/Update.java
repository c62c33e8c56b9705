package dev.bridle;

import dev.bridle.v1.Compacted;
import dev.bridle.v1.Event;
import dev.bridle.v1.LiveText;
import dev.bridle.v1.Progress;

/** One thing that a {@link Watch} tells. */
public sealed interface Update {
  /** An event: each once, and in order. */
  record Told(String sessionId, Event event) implements Update {}

  /** Text of a message that is still being written. */
  record Live(String sessionId, LiveText text) implements Update {}

  /** All events up to a sequence were told. */
  record Progressed(String sessionId, Progress progress) implements Update {}

  /** The log begins later than was asked for. */
  record Shortened(String sessionId, Compacted compacted) implements Update {}

  /** The stream is open, for the first time or again. */
  record Connected() implements Update {}

  /** The connection was lost, and the watch goes on trying. */
  record Disconnected(Throwable error) implements Update {}
}
