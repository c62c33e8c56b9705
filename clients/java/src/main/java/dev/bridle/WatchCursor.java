package dev.bridle;

import dev.bridle.v1.SessionRef;
import dev.bridle.v1.WatchTarget;

/** One session of a watch and how far it was told. */
final class WatchCursor {
  private SessionRef session;
  private String logId;
  private final int tail;
  private long sequence;
  private boolean known; // false while only a tail was asked for
  private boolean fromFloor; // it begins at the floor, wherever that is, and nothing was told yet
  private boolean ended;
  private WatchTarget told;

  WatchCursor(WatchTarget from) {
    session = from.getSession();
    logId = from.getLogId();
    tail = from.getTail();
    sequence = from.getAfterSequence();
    known = !from.hasTail();
    fromFloor = known && sequence == 0;
    told = request();
  }

  SessionRef session() {
    return session;
  }

  /** Empty until the first answer has told it. */
  String sessionId() {
    return session.getId();
  }

  boolean known() {
    return known;
  }

  long sequence() {
    return sequence;
  }

  boolean ended() {
    return ended;
  }

  void end() {
    ended = true;
  }

  void pin(String sessionId) {
    session = session.toBuilder().setId(sessionId).build();
  }

  void logId(String told) {
    if (logId.isEmpty()) {
      logId = told;
    }
  }

  void advance(long to) {
    sequence = Math.max(sequence, to);
    known = true;
    fromFloor = fromFloor && to == 0;
  }

  void beginAt(long floor) {
    sequence = Math.max(sequence, floor - 1);
    known = true;
  }

  /** As it stood behind what the reader was handed last: he may be far behind what has come. */
  WatchTarget told() {
    return told;
  }

  void told(WatchTarget upTo) {
    told = upTo;
  }

  /** As it stands behind all that has come. */
  WatchTarget request() {
    WatchTarget.Builder made = WatchTarget.newBuilder().setSession(session).setLogId(logId);
    if (!known) {
      return made.setTail(tail).build();
    }
    // Not from behind the floor that it was told of: that may have risen since.
    return made.setAfterSequence(fromFloor ? 0 : sequence).build();
  }
}
