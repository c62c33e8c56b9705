package dev.bridle;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.bridle.v1.ErrorReason;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What control says about a call that failed. Branch on the reason, never on the text.
 *
 * @param code the gRPC status code
 * @param reason UNRECOGNIZED for one that this release doesn't know; {@code name} has it then
 * @param name the reason's name without its prefix: "SESSION_NOT_FOUND"
 * @param message a line for people
 * @param metadata what the reason's comment in error_reason.proto names
 * @param fields what is wrong with the request: the path ("session.slug"), a line for people
 * @param retryAfter the wait before the next try that control asks for; zero where it doesn't
 */
public record Failure(
    Status.Code code,
    ErrorReason reason,
    String name,
    String message,
    Map<String, String> metadata,
    List<BadRequest.FieldViolation> fields,
    Duration retryAfter) {
  private static final String DOMAIN = "bridle.v1";
  // (StatusProto throws where these can't be read, or tell another code than the call's status.)
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  /** Empty where the failure is not one of Bridle's own: a lost connection, a deadline. */
  public static Optional<Failure> of(Throwable error) {
    Metadata trailers = Status.trailersFromThrowable(error);
    byte[] raw = trailers == null ? null : trailers.get(DETAILS);
    if (raw == null) {
      return Optional.empty();
    }
    com.google.rpc.Status said;
    ErrorInfo info = null;
    List<BadRequest.FieldViolation> fields = new ArrayList<>();
    Duration wait = Duration.ZERO;
    try {
      said = com.google.rpc.Status.parseFrom(raw);
      for (Any detail : said.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          fields.addAll(detail.unpack(BadRequest.class).getFieldViolationsList());
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          wait = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException | ArithmeticException unreadable) {
      return Optional.empty();
    }
    if (info == null || !info.getDomain().equals(DOMAIN)) {
      return Optional.empty();
    }
    return Optional.of(
        new Failure(
            Status.fromCodeValue(said.getCode()).getCode(),
            reason(info.getReason()),
            info.getReason(),
            said.getMessage(),
            info.getMetadataMap(),
            List.copyOf(fields),
            wait));
  }

  /** The reason of a failure; ERROR_REASON_UNSPECIFIED where it is not one of Bridle's own. */
  public static ErrorReason reasonOf(Throwable error) {
    return of(error).map(Failure::reason).orElse(ErrorReason.ERROR_REASON_UNSPECIFIED);
  }

  private static ErrorReason reason(String name) {
    try {
      return ErrorReason.valueOf("ERROR_REASON_" + name);
    } catch (IllegalArgumentException later) {
      return ErrorReason.UNRECOGNIZED;
    }
  }
}
