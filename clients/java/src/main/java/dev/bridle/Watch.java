package dev.bridle;

import dev.bridle.v1.Compacted;
import dev.bridle.v1.Event;
import dev.bridle.v1.EventBatch;
import dev.bridle.v1.GetSessionRequest;
import dev.bridle.v1.Progress;
import dev.bridle.v1.WatchRequest;
import dev.bridle.v1.WatchResponse;
import dev.bridle.v1.WatchTarget;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * A stream of events that outlives its connections.
 *
 * <p>It keeps the cursor of each session, and opens the stream again from there when the connection
 * is lost: over any number of losses each event comes once and in order. What it can't promise it
 * throws as a StatusRuntimeException: CURSOR_COMPACTED, CURSOR_FOREIGN, SESSION_NOT_FOUND and so on.
 *
 * <p>To be read by one thread, once: {@code for (Event event : watch.events())}. {@link #close} may
 * be called by any thread, and ends the reading with CANCELLED; so does an interrupt of the thread that
 * reads, and the end of its {@code io.grpc.Context} (or DEADLINE_EXCEEDED, where its deadline was met).
 */
public final class Watch implements Iterator<Update>, AutoCloseable {
  /** Control says something every 15 s: after this long without a word the connection is lost. */
  private static final Duration SILENCE = Duration.ofSeconds(30);

  /**
   * So long control gets to end the stream of a watch that has told everything: it does at once, but
   * on a busy machine anybody may pause for some.
   */
  private static final Duration CLOSING = Duration.ofSeconds(10);

  /** Gaps in a row, each after a new connection, that show a broken log and not a bad moment. */
  private static final int GAPS_CAP = 5;

  /** Failures in a row before the first answer, after which a watch gives up; but see Retry. */
  private static final int FIRST_TRIES = 5;

  private final Bridle bridle;
  private final Guard guard;
  private final WatchRequest request;
  private final Supplier<String> token;
  private final Retry retry;
  private final List<WatchCursor> targets;
  private final Deque<Ready> ready = new ArrayDeque<>();

  /** A permit for each reason to wait no longer. */
  private final Semaphore ending = new Semaphore(0);

  private volatile Answers answers;
  private volatile Context.CancellableContext pinning;
  private String sent = "";
  private long begun; // in nanoseconds, as all that waits is measured
  private boolean connected;
  private int attempt;
  private Duration pause = Duration.ZERO; // before the next connection
  private int gaps;
  private int renewed; // times in a row that it was refused, and found another token
  private volatile boolean closed;

  /** What is to be told, and how far its session is told then; no session where it is of all. */
  private record Ready(Update update, WatchCursor of, WatchTarget upTo) {}

  Watch(Bridle bridle, Guard guard, WatchRequest request, Supplier<String> token, Retry retry) {
    this.bridle = bridle;
    this.guard = guard;
    this.request = request;
    this.token = token;
    this.retry = retry;
    this.targets = request.getTargetsList().stream().map(WatchCursor::new).toList();
  }

  /** The targets as they would have to be asked for to go on behind what was told. */
  public List<WatchTarget> cursors() {
    return targets.stream().map(WatchCursor::told).toList();
  }

  /** The events alone. */
  public Iterable<Event> events() {
    Iterable<Update> all = () -> this;
    Stream<Event> events =
        StreamSupport.stream(all.spliterator(), false)
            .flatMap(update -> update instanceof Update.Told told ? Stream.of(told.event()) : Stream.empty());
    return events::iterator;
  }

  @Override
  public void close() {
    closed = true;
    ending.release();
    Answers open = answers;
    if (open != null) {
      open.cancel();
    }
    Context.CancellableContext asking = pinning;
    if (asking != null) {
      asking.cancel(null);
    }
  }

  @Override
  public boolean hasNext() {
    if (!connected && attempt == 0) {
      begun = System.nanoTime();
    }
    while (ready.isEmpty()) {
      // (Of no targets at all none has ended: control refuses them.)
      if (!targets.isEmpty() && targets.stream().allMatch(WatchCursor::ended)) {
        letEnd();
        close();
        return false;
      }
      try {
        take(next(SILENCE));
      } catch (StatusRuntimeException lost) {
        goOnAfter(lost);
      }
    }
    return true;
  }

  @Override
  public Update next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    Ready first = ready.remove();
    if (first.of() != null) {
      first.of().told(first.upTo());
    }
    return first.update();
  }

  private void tell(Update update) {
    ready.add(new Ready(update, null, null));
  }

  private void tell(Update update, WatchCursor of) {
    ready.add(new Ready(update, of, of.request()));
  }

  // --- the stream, over connections ---------------------------------------------------------

  private WatchResponse next(Duration silence) {
    boolean fresh = answers == null;
    if (fresh) {
      rest();
      sent = token.get();
      pin();
      WatchRequest.Builder open = request.toBuilder().clearTargets();
      targets.stream().filter(each -> !each.ended()).forEach(each -> open.addTargets(each.request()));
      answers = new Answers(bridle.channel(), open.build());
      if (closed) {
        answers.cancel(); // Whoever closed it just now may not have seen it.
      }
    }
    WatchResponse answer = answers.next(silence);
    if (fresh) {
      connected = true;
      attempt = 0;
      renewed = 0;
      tell(new Update.Connected());
    }
    return answer;
  }

  /** Control ends the stream now. One that is broken off counts as failed: in traces, say. */
  private void letEnd() {
    if (answers != null && !closed) {
      try {
        answers.next(CLOSING);
      } catch (StatusRuntimeException end) {
        // Whatever it was: all was told.
      }
    }
  }

  private void goOnAfter(StatusRuntimeException lost) {
    if (answers != null) {
      answers.cancel();
      answers = null;
    }
    Status end = wanted();
    if (end != null) {
      closed = true;
      throw end.withCause(lost).asRuntimeException();
    }
    attempt++;
    if (!goesOn(lost) || !(connected || attempt < FIRST_TRIES || isPatient(lost))) {
      closed = true;
      throw lost;
    }
    if (connected) {
      tell(new Update.Disconnected(lost));
    }
    if (Retry.isLost(lost)) {
      guard.lost();
    }
    pause = retry.delay(attempt, lost);
  }

  /** Waits until the next connection is due. StatusRuntimeException: there is to be none. */
  private void rest() {
    Context.CancellationListener wake = ended -> ending.release();
    Context.current().addListener(wake, Runnable::run);
    try {
      ending.tryAcquire(pause.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    } finally {
      Context.current().removeListener(wake);
    }
    pause = Duration.ZERO;
    Status end = wanted();
    if (end != null) {
      throw end.asRuntimeException();
    }
  }

  /** The end that somebody has asked for; null where nobody has. */
  private Status wanted() {
    if (closed || guard.closed() || Thread.currentThread().isInterrupted()) {
      return Status.CANCELLED;
    }
    Context context = Context.current();
    if (context.isCancelled()) {
      return Contexts.statusFromCancelled(context);
    }
    Deadline deadline = context.getDeadline();
    return deadline != null && deadline.isExpired() ? Status.DEADLINE_EXCEEDED : null;
  }

  /** Whether it may still wait for a control that was there before, and is lost. */
  private boolean isPatient(StatusRuntimeException lost) {
    boolean early = System.nanoTime() - begun < retry.patience().toNanos();
    return early && guard.isKnown() && Retry.isLost(lost);
  }

  private boolean goesOn(StatusRuntimeException lost) {
    if (lost instanceof GapException) {
      return ++gaps < GAPS_CAP;
    }
    if (Guard.renewed(token, lost.getStatus(), sent)) {
      return ++renewed < FIRST_TRIES;
    }
    return Retry.isBroken(lost);
  }

  /**
   * Fixes which sessions are meant, so that a slug that is deleted and taken again in between does
   * not mix two logs. One alone is told by the first answer.
   */
  private void pin() {
    if (targets.size() > 1) {
      try (Context.CancellableContext asking = Context.current().withCancellation()) {
        pinning = asking;
        asking.run(() -> targets.stream().filter(each -> each.sessionId().isEmpty()).forEach(this::pin));
      } finally {
        pinning = null;
      }
    }
  }

  private void pin(WatchCursor target) {
    if (closed) {
      throw Status.CANCELLED.asRuntimeException();
    }
    var get = GetSessionRequest.newBuilder().setSession(target.session()).build();
    target.pin(bridle.sessions().getSession(get).getSession().getSessionId());
    target.told(target.request());
  }

  // --- one answer ---------------------------------------------------------------------------

  /** What an answer tells that was not told before. */
  private void take(WatchResponse answer) {
    switch (answer.getResponseCase()) {
      case EVENTS -> takeEvents(answer.getEvents());
      case PROGRESS -> takeProgress(answer.getProgress());
      case COMPACTED -> {
        Compacted compacted = answer.getCompacted();
        WatchCursor from = target(compacted.getSessionId(), compacted.getLogId());
        from.beginAt(compacted.getFloorSequence());
        tell(new Update.Shortened(from.sessionId(), compacted), from);
      }
      case LIVE_TEXT ->
          tell(new Update.Live(answer.getLiveText().getSessionId(), answer.getLiveText()));
      default -> {} // A kind of answer of a later release.
    }
  }

  private void takeProgress(Progress progress) {
    WatchCursor from = target(progress.getSessionId(), progress.getLogId());
    if (!from.known() || request.getKindsCount() > 0) {
      from.advance(progress.getSequence()); // Where a tail begins, or what `kinds` left out.
    } else if (progress.getSequence() > from.sequence()) {
      throw new GapException(from.sequence());
    }
    if (progress.getEnded()) {
      from.end();
    }
    tell(new Update.Progressed(from.sessionId(), progress), from);
  }

  private void takeEvents(EventBatch batch) {
    WatchCursor from = target(batch.getSessionId(), batch.getLogId());
    for (Event event : batch.getEventsList()) {
      if (from.known()) {
        if (event.getSequence() <= from.sequence()) {
          continue; // Told already, over an earlier connection.
        }
        if (event.getSequence() != from.sequence() + 1 && request.getKindsCount() == 0) {
          throw new GapException(from.sequence());
        }
      }
      from.advance(event.getSequence());
      gaps = 0;
      tell(new Update.Told(from.sessionId(), event), from);
    }
  }

  private WatchCursor target(String sessionId, String logId) {
    for (WatchCursor each : targets) {
      if (each.sessionId().equals(sessionId)) {
        each.logId(logId);
        return each;
      }
    }
    WatchCursor only = targets.get(0); // Several were pinned before.
    only.pin(sessionId);
    only.logId(logId);
    return only;
  }

  /** Something between two events did not come: the stream can't be trusted any further. */
  private static final class GapException extends StatusRuntimeException {
    GapException(long sequence) {
      super(Status.DATA_LOSS.withDescription("a gap after event " + sequence));
    }
  }
}
