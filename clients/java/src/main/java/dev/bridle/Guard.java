package dev.bridle;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.security.SecureRandom;
import java.util.UUID;
import java.util.function.Supplier;

/** What stands before every call: the token, the request id, and further tries. */
final class Guard implements ClientInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  private static final SecureRandom CHANCE = new SecureRandom();

  private final Supplier<String> token;
  private final Retry retry;
  // Control has answered here, so that a lost connection is no wrong address.
  private volatile boolean known;

  Guard(Supplier<String> token, Retry retry) {
    this.token = token;
    this.retry = retry;
  }

  @Override
  public <Q, A> ClientCall<Q, A> interceptCall(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    if (method.getType() == MethodDescriptor.MethodType.UNARY) {
      return new UnaryCall<>(this, retry, method, options, next);
    }
    return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
      @Override
      public void start(Listener<A> listener, Metadata headers) {
        authorize(headers);
        super.start(listener, headers);
      }
    };
  }

  /** Returns the token that was put in. */
  String authorize(Metadata headers) {
    String now = current();
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

  /** Whether the token was made fresh while the call was under way. */
  boolean renewed(Status status, String sent) {
    return status.getCode() == Status.Code.UNAUTHENTICATED && !current().equals(sent);
  }

  private String current() {
    try {
      return token.get();
    } catch (RuntimeException failed) {
      throw Status.UNAUTHENTICATED
          .withDescription("the token can't be read")
          .withCause(failed)
          .asRuntimeException();
    }
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
