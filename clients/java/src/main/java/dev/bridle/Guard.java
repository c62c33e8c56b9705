package dev.bridle;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors.CheckedForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;

/** What stands before every call: the token, the request id, and further tries. */
final class Guard implements ClientInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final SecureRandom CHANCE = new SecureRandom();

  private final Supplier<String> token;
  private final Retry retry;
  private final ManagedChannel connection;
  // No more than there are calls. Those with a try under way end with the connection.
  private final Set<UnaryCall<?, ?>> pausing = ConcurrentHashMap.newKeySet();
  // Control has answered here, so that a lost connection is no wrong address.
  private volatile boolean known;

  /** {@code token} is checked. */
  Guard(Supplier<String> token, Retry retry, ManagedChannel connection) {
    this.token = token;
    this.retry = retry;
    this.connection = connection;
  }

  @Override
  public <Q, A> ClientCall<Q, A> interceptCall(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    if (method.getType() == MethodDescriptor.MethodType.UNARY) {
      return new UnaryCall<>(this, retry, method, options, next);
    }
    // Where there is no token the listener is told.
    return new CheckedForwardingClientCall<>(next.newCall(method, options)) {
      @Override
      protected void checkedStart(Listener<A> listener, Metadata headers) {
        authorize(headers);
        delegate().start(
            new SimpleForwardingClientCallListener<>(listener) {
              @Override
              public void onMessage(A message) {
                answered();
                super.onMessage(message);
              }

              @Override
              public void onClose(Status status, Metadata trailers) {
                super.onClose(told(status), trailers);
              }
            },
            headers);
      }
    };
  }

  /** Returns the token that was put in. */
  String authorize(Metadata headers) {
    String now = token.get();
    headers.discardAll(AUTHORIZATION);
    headers.put(AUTHORIZATION, "Bearer " + now);
    return now;
  }

  /** Control has answered. */
  void answered() {
    known = true;
  }

  /** Whether control has answered before. */
  boolean isKnown() {
    return known;
  }

  boolean closed() {
    return connection.isShutdown();
  }

  /** The connection is lost: gRPC's own waits before it connects again would grow to minutes. */
  void lost() {
    connection.resetConnectBackoff();
  }

  /** A call waits for its next try. */
  void pauses(UnaryCall<?, ?> call) {
    pausing.add(call);
  }

  void resumes(UnaryCall<?, ?> call) {
    pausing.remove(call);
  }

  /** Ends the calls that wait for their next try; the client is closed. */
  void end() {
    pausing.forEach(call -> call.end(told(Status.UNAVAILABLE)));
  }

  /** What to tell of the end of a call: gRPC calls it UNAVAILABLE where the client was closed. */
  Status told(Status status) {
    boolean lost = status.getCode() == Status.Code.UNAVAILABLE;
    return lost && closed() ? Status.CANCELLED.withDescription("the client is closed") : status;
  }

  boolean renewed(Status status, String sent) {
    return renewed(token, status, sent);
  }

  /** Whether a call was refused for a token that was made fresh meanwhile. */
  static boolean renewed(Supplier<String> token, Status status, String sent) {
    if (status.getCode() != Status.Code.UNAUTHENTICATED) {
      return false;
    }
    try {
      return !token.get().equals(sent);
    } catch (StatusRuntimeException unreadable) {
      return false; // What the call failed with tells more.
    }
  }

  /** What gives the token; StatusRuntimeException UNAUTHENTICATED: there is none that can be sent. */
  static Supplier<String> checked(Supplier<String> source) {
    return () -> {
      String token;
      try {
        token = source.get();
      } catch (RuntimeException failed) {
        throw Status.UNAUTHENTICATED
            .withDescription("the token can't be read")
            .withCause(failed)
            .asRuntimeException();
      }
      if (token == null || !token.matches("[\\x21-\\x7e]+")) {
        throw Status.UNAUTHENTICATED
            .withDescription("the token is empty, or holds characters that no token has")
            .asRuntimeException();
      }
      return token;
    };
  }

  /** How long a request asks control to wait before it answers. */
  static Duration waitOf(Object request) {
    if (request instanceof Message message) {
      FieldDescriptor field = message.getDescriptorForType().findFieldByName("wait");
      if (field != null && message.getField(field) instanceof com.google.protobuf.Duration wait) {
        Duration asked = Duration.ofSeconds(wait.getSeconds(), wait.getNanos());
        return asked.isNegative() ? Duration.ZERO : asked; // Of less than none control tells.
      }
    }
    return Duration.ZERO;
  }

  /** Gives a request that changes something an id, one for all tries. */
  @SuppressWarnings("unchecked")
  static <Q> Q withRequestId(Q request) {
    if (!(request instanceof Message message)) {
      return request;
    }
    FieldDescriptor field = message.getDescriptorForType().findFieldByName("request_id");
    // In a oneof (of GetCommand) it is what is asked for, and none of the request's own.
    if (field == null
        || field.getContainingOneof() != null
        || !((String) message.getField(field)).isEmpty()) {
      return request;
    }
    return (Q) message.toBuilder().setField(field, uuid7().toString()).build();
  }

  /** A UUID of version 7, whose first 48 bits are the time in milliseconds (RFC 9562). */
  static UUID uuid7() {
    long high = System.currentTimeMillis() << 16 | 0x7000 | CHANCE.nextInt(0x1000);
    long low = CHANCE.nextLong() >>> 2 | 0x8000000000000000L;
    return new UUID(high, low);
  }
}
