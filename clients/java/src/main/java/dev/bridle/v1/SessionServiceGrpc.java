package dev.bridle.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Sessions, and the verbs that steer them.
 * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
 * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
 * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
 * host. The call answers when the host has journaled its answer, at the latest
 * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
 * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
 * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
 * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
 * the same body gets the same receipt for at least 7 days, over restarts; with
 * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
 * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
 * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
 * DEADLINE_EXCEEDED or a broken connection, send the same request again.
 * ERRORS OF EVERY CALL, beside those that each RPC lists:
 *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
 *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
 *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
 *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
 *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
 *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
 *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
 *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class SessionServiceGrpc {

  private SessionServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "bridle.v1.SessionService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.StartSessionRequest,
      dev.bridle.v1.StartSessionResponse> getStartSessionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "StartSession",
      requestType = dev.bridle.v1.StartSessionRequest.class,
      responseType = dev.bridle.v1.StartSessionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.StartSessionRequest,
      dev.bridle.v1.StartSessionResponse> getStartSessionMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.StartSessionRequest, dev.bridle.v1.StartSessionResponse> getStartSessionMethod;
    if ((getStartSessionMethod = SessionServiceGrpc.getStartSessionMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getStartSessionMethod = SessionServiceGrpc.getStartSessionMethod) == null) {
          SessionServiceGrpc.getStartSessionMethod = getStartSessionMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.StartSessionRequest, dev.bridle.v1.StartSessionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "StartSession"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.StartSessionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.StartSessionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("StartSession"))
              .build();
        }
      }
    }
    return getStartSessionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.GetSessionRequest,
      dev.bridle.v1.GetSessionResponse> getGetSessionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetSession",
      requestType = dev.bridle.v1.GetSessionRequest.class,
      responseType = dev.bridle.v1.GetSessionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.GetSessionRequest,
      dev.bridle.v1.GetSessionResponse> getGetSessionMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.GetSessionRequest, dev.bridle.v1.GetSessionResponse> getGetSessionMethod;
    if ((getGetSessionMethod = SessionServiceGrpc.getGetSessionMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getGetSessionMethod = SessionServiceGrpc.getGetSessionMethod) == null) {
          SessionServiceGrpc.getGetSessionMethod = getGetSessionMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.GetSessionRequest, dev.bridle.v1.GetSessionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetSession"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.GetSessionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.GetSessionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("GetSession"))
              .build();
        }
      }
    }
    return getGetSessionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListSessionsRequest,
      dev.bridle.v1.ListSessionsResponse> getListSessionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListSessions",
      requestType = dev.bridle.v1.ListSessionsRequest.class,
      responseType = dev.bridle.v1.ListSessionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListSessionsRequest,
      dev.bridle.v1.ListSessionsResponse> getListSessionsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListSessionsRequest, dev.bridle.v1.ListSessionsResponse> getListSessionsMethod;
    if ((getListSessionsMethod = SessionServiceGrpc.getListSessionsMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getListSessionsMethod = SessionServiceGrpc.getListSessionsMethod) == null) {
          SessionServiceGrpc.getListSessionsMethod = getListSessionsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListSessionsRequest, dev.bridle.v1.ListSessionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListSessions"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListSessionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListSessionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("ListSessions"))
              .build();
        }
      }
    }
    return getListSessionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.UpdateSessionRequest,
      dev.bridle.v1.UpdateSessionResponse> getUpdateSessionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "UpdateSession",
      requestType = dev.bridle.v1.UpdateSessionRequest.class,
      responseType = dev.bridle.v1.UpdateSessionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.UpdateSessionRequest,
      dev.bridle.v1.UpdateSessionResponse> getUpdateSessionMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.UpdateSessionRequest, dev.bridle.v1.UpdateSessionResponse> getUpdateSessionMethod;
    if ((getUpdateSessionMethod = SessionServiceGrpc.getUpdateSessionMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getUpdateSessionMethod = SessionServiceGrpc.getUpdateSessionMethod) == null) {
          SessionServiceGrpc.getUpdateSessionMethod = getUpdateSessionMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.UpdateSessionRequest, dev.bridle.v1.UpdateSessionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "UpdateSession"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.UpdateSessionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.UpdateSessionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("UpdateSession"))
              .build();
        }
      }
    }
    return getUpdateSessionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.DeleteSessionRequest,
      dev.bridle.v1.DeleteSessionResponse> getDeleteSessionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteSession",
      requestType = dev.bridle.v1.DeleteSessionRequest.class,
      responseType = dev.bridle.v1.DeleteSessionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.DeleteSessionRequest,
      dev.bridle.v1.DeleteSessionResponse> getDeleteSessionMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.DeleteSessionRequest, dev.bridle.v1.DeleteSessionResponse> getDeleteSessionMethod;
    if ((getDeleteSessionMethod = SessionServiceGrpc.getDeleteSessionMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getDeleteSessionMethod = SessionServiceGrpc.getDeleteSessionMethod) == null) {
          SessionServiceGrpc.getDeleteSessionMethod = getDeleteSessionMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.DeleteSessionRequest, dev.bridle.v1.DeleteSessionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteSession"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.DeleteSessionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.DeleteSessionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("DeleteSession"))
              .build();
        }
      }
    }
    return getDeleteSessionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.SendRequest,
      dev.bridle.v1.SendResponse> getSendMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Send",
      requestType = dev.bridle.v1.SendRequest.class,
      responseType = dev.bridle.v1.SendResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.SendRequest,
      dev.bridle.v1.SendResponse> getSendMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.SendRequest, dev.bridle.v1.SendResponse> getSendMethod;
    if ((getSendMethod = SessionServiceGrpc.getSendMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getSendMethod = SessionServiceGrpc.getSendMethod) == null) {
          SessionServiceGrpc.getSendMethod = getSendMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.SendRequest, dev.bridle.v1.SendResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Send"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.SendRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.SendResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Send"))
              .build();
        }
      }
    }
    return getSendMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.InterruptRequest,
      dev.bridle.v1.InterruptResponse> getInterruptMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Interrupt",
      requestType = dev.bridle.v1.InterruptRequest.class,
      responseType = dev.bridle.v1.InterruptResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.InterruptRequest,
      dev.bridle.v1.InterruptResponse> getInterruptMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.InterruptRequest, dev.bridle.v1.InterruptResponse> getInterruptMethod;
    if ((getInterruptMethod = SessionServiceGrpc.getInterruptMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getInterruptMethod = SessionServiceGrpc.getInterruptMethod) == null) {
          SessionServiceGrpc.getInterruptMethod = getInterruptMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.InterruptRequest, dev.bridle.v1.InterruptResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Interrupt"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.InterruptRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.InterruptResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Interrupt"))
              .build();
        }
      }
    }
    return getInterruptMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.StopRequest,
      dev.bridle.v1.StopResponse> getStopMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Stop",
      requestType = dev.bridle.v1.StopRequest.class,
      responseType = dev.bridle.v1.StopResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.StopRequest,
      dev.bridle.v1.StopResponse> getStopMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.StopRequest, dev.bridle.v1.StopResponse> getStopMethod;
    if ((getStopMethod = SessionServiceGrpc.getStopMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getStopMethod = SessionServiceGrpc.getStopMethod) == null) {
          SessionServiceGrpc.getStopMethod = getStopMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.StopRequest, dev.bridle.v1.StopResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Stop"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.StopRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.StopResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Stop"))
              .build();
        }
      }
    }
    return getStopMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.KillRequest,
      dev.bridle.v1.KillResponse> getKillMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Kill",
      requestType = dev.bridle.v1.KillRequest.class,
      responseType = dev.bridle.v1.KillResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.KillRequest,
      dev.bridle.v1.KillResponse> getKillMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.KillRequest, dev.bridle.v1.KillResponse> getKillMethod;
    if ((getKillMethod = SessionServiceGrpc.getKillMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getKillMethod = SessionServiceGrpc.getKillMethod) == null) {
          SessionServiceGrpc.getKillMethod = getKillMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.KillRequest, dev.bridle.v1.KillResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Kill"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.KillRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.KillResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Kill"))
              .build();
        }
      }
    }
    return getKillMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ResumeRequest,
      dev.bridle.v1.ResumeResponse> getResumeMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Resume",
      requestType = dev.bridle.v1.ResumeRequest.class,
      responseType = dev.bridle.v1.ResumeResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ResumeRequest,
      dev.bridle.v1.ResumeResponse> getResumeMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ResumeRequest, dev.bridle.v1.ResumeResponse> getResumeMethod;
    if ((getResumeMethod = SessionServiceGrpc.getResumeMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getResumeMethod = SessionServiceGrpc.getResumeMethod) == null) {
          SessionServiceGrpc.getResumeMethod = getResumeMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ResumeRequest, dev.bridle.v1.ResumeResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Resume"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ResumeRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ResumeResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Resume"))
              .build();
        }
      }
    }
    return getResumeMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.RespondRequest,
      dev.bridle.v1.RespondResponse> getRespondMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Respond",
      requestType = dev.bridle.v1.RespondRequest.class,
      responseType = dev.bridle.v1.RespondResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.RespondRequest,
      dev.bridle.v1.RespondResponse> getRespondMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.RespondRequest, dev.bridle.v1.RespondResponse> getRespondMethod;
    if ((getRespondMethod = SessionServiceGrpc.getRespondMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getRespondMethod = SessionServiceGrpc.getRespondMethod) == null) {
          SessionServiceGrpc.getRespondMethod = getRespondMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.RespondRequest, dev.bridle.v1.RespondResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Respond"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RespondRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RespondResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Respond"))
              .build();
        }
      }
    }
    return getRespondMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ReleaseQueueRequest,
      dev.bridle.v1.ReleaseQueueResponse> getReleaseQueueMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ReleaseQueue",
      requestType = dev.bridle.v1.ReleaseQueueRequest.class,
      responseType = dev.bridle.v1.ReleaseQueueResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ReleaseQueueRequest,
      dev.bridle.v1.ReleaseQueueResponse> getReleaseQueueMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ReleaseQueueRequest, dev.bridle.v1.ReleaseQueueResponse> getReleaseQueueMethod;
    if ((getReleaseQueueMethod = SessionServiceGrpc.getReleaseQueueMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getReleaseQueueMethod = SessionServiceGrpc.getReleaseQueueMethod) == null) {
          SessionServiceGrpc.getReleaseQueueMethod = getReleaseQueueMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ReleaseQueueRequest, dev.bridle.v1.ReleaseQueueResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ReleaseQueue"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ReleaseQueueRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ReleaseQueueResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("ReleaseQueue"))
              .build();
        }
      }
    }
    return getReleaseQueueMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListInputsRequest,
      dev.bridle.v1.ListInputsResponse> getListInputsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListInputs",
      requestType = dev.bridle.v1.ListInputsRequest.class,
      responseType = dev.bridle.v1.ListInputsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListInputsRequest,
      dev.bridle.v1.ListInputsResponse> getListInputsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListInputsRequest, dev.bridle.v1.ListInputsResponse> getListInputsMethod;
    if ((getListInputsMethod = SessionServiceGrpc.getListInputsMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getListInputsMethod = SessionServiceGrpc.getListInputsMethod) == null) {
          SessionServiceGrpc.getListInputsMethod = getListInputsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListInputsRequest, dev.bridle.v1.ListInputsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListInputs"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListInputsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListInputsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("ListInputs"))
              .build();
        }
      }
    }
    return getListInputsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.CancelInputRequest,
      dev.bridle.v1.CancelInputResponse> getCancelInputMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CancelInput",
      requestType = dev.bridle.v1.CancelInputRequest.class,
      responseType = dev.bridle.v1.CancelInputResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.CancelInputRequest,
      dev.bridle.v1.CancelInputResponse> getCancelInputMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.CancelInputRequest, dev.bridle.v1.CancelInputResponse> getCancelInputMethod;
    if ((getCancelInputMethod = SessionServiceGrpc.getCancelInputMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getCancelInputMethod = SessionServiceGrpc.getCancelInputMethod) == null) {
          SessionServiceGrpc.getCancelInputMethod = getCancelInputMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.CancelInputRequest, dev.bridle.v1.CancelInputResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CancelInput"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CancelInputRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CancelInputResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("CancelInput"))
              .build();
        }
      }
    }
    return getCancelInputMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.WatchRequest,
      dev.bridle.v1.WatchResponse> getWatchMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "Watch",
      requestType = dev.bridle.v1.WatchRequest.class,
      responseType = dev.bridle.v1.WatchResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.WatchRequest,
      dev.bridle.v1.WatchResponse> getWatchMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.WatchRequest, dev.bridle.v1.WatchResponse> getWatchMethod;
    if ((getWatchMethod = SessionServiceGrpc.getWatchMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getWatchMethod = SessionServiceGrpc.getWatchMethod) == null) {
          SessionServiceGrpc.getWatchMethod = getWatchMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.WatchRequest, dev.bridle.v1.WatchResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "Watch"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WatchRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WatchResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("Watch"))
              .build();
        }
      }
    }
    return getWatchMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.WatchSessionsRequest,
      dev.bridle.v1.WatchSessionsResponse> getWatchSessionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WatchSessions",
      requestType = dev.bridle.v1.WatchSessionsRequest.class,
      responseType = dev.bridle.v1.WatchSessionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.WatchSessionsRequest,
      dev.bridle.v1.WatchSessionsResponse> getWatchSessionsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.WatchSessionsRequest, dev.bridle.v1.WatchSessionsResponse> getWatchSessionsMethod;
    if ((getWatchSessionsMethod = SessionServiceGrpc.getWatchSessionsMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getWatchSessionsMethod = SessionServiceGrpc.getWatchSessionsMethod) == null) {
          SessionServiceGrpc.getWatchSessionsMethod = getWatchSessionsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.WatchSessionsRequest, dev.bridle.v1.WatchSessionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WatchSessions"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WatchSessionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WatchSessionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("WatchSessions"))
              .build();
        }
      }
    }
    return getWatchSessionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListEventsRequest,
      dev.bridle.v1.ListEventsResponse> getListEventsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListEvents",
      requestType = dev.bridle.v1.ListEventsRequest.class,
      responseType = dev.bridle.v1.ListEventsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListEventsRequest,
      dev.bridle.v1.ListEventsResponse> getListEventsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListEventsRequest, dev.bridle.v1.ListEventsResponse> getListEventsMethod;
    if ((getListEventsMethod = SessionServiceGrpc.getListEventsMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getListEventsMethod = SessionServiceGrpc.getListEventsMethod) == null) {
          SessionServiceGrpc.getListEventsMethod = getListEventsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListEventsRequest, dev.bridle.v1.ListEventsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListEvents"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListEventsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListEventsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("ListEvents"))
              .build();
        }
      }
    }
    return getListEventsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.GetCommandRequest,
      dev.bridle.v1.GetCommandResponse> getGetCommandMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetCommand",
      requestType = dev.bridle.v1.GetCommandRequest.class,
      responseType = dev.bridle.v1.GetCommandResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.GetCommandRequest,
      dev.bridle.v1.GetCommandResponse> getGetCommandMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.GetCommandRequest, dev.bridle.v1.GetCommandResponse> getGetCommandMethod;
    if ((getGetCommandMethod = SessionServiceGrpc.getGetCommandMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getGetCommandMethod = SessionServiceGrpc.getGetCommandMethod) == null) {
          SessionServiceGrpc.getGetCommandMethod = getGetCommandMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.GetCommandRequest, dev.bridle.v1.GetCommandResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetCommand"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.GetCommandRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.GetCommandResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("GetCommand"))
              .build();
        }
      }
    }
    return getGetCommandMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ReadArtifactRequest,
      dev.bridle.v1.ReadArtifactResponse> getReadArtifactMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ReadArtifact",
      requestType = dev.bridle.v1.ReadArtifactRequest.class,
      responseType = dev.bridle.v1.ReadArtifactResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ReadArtifactRequest,
      dev.bridle.v1.ReadArtifactResponse> getReadArtifactMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ReadArtifactRequest, dev.bridle.v1.ReadArtifactResponse> getReadArtifactMethod;
    if ((getReadArtifactMethod = SessionServiceGrpc.getReadArtifactMethod) == null) {
      synchronized (SessionServiceGrpc.class) {
        if ((getReadArtifactMethod = SessionServiceGrpc.getReadArtifactMethod) == null) {
          SessionServiceGrpc.getReadArtifactMethod = getReadArtifactMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ReadArtifactRequest, dev.bridle.v1.ReadArtifactResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ReadArtifact"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ReadArtifactRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ReadArtifactResponse.getDefaultInstance()))
              .setSchemaDescriptor(new SessionServiceMethodDescriptorSupplier("ReadArtifact"))
              .build();
        }
      }
    }
    return getReadArtifactMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static SessionServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SessionServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SessionServiceStub>() {
        @java.lang.Override
        public SessionServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SessionServiceStub(channel, callOptions);
        }
      };
    return SessionServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static SessionServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SessionServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SessionServiceBlockingV2Stub>() {
        @java.lang.Override
        public SessionServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SessionServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return SessionServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static SessionServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SessionServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SessionServiceBlockingStub>() {
        @java.lang.Override
        public SessionServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SessionServiceBlockingStub(channel, callOptions);
        }
      };
    return SessionServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static SessionServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<SessionServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<SessionServiceFutureStub>() {
        @java.lang.Override
        public SessionServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new SessionServiceFutureStub(channel, callOptions);
        }
      };
    return SessionServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Starts a session and its first run. With `prompt`, the first input is accepted in
     * the same commit. A session's own token starts a child of that session.
     * If the host refuses, nothing is left behind.
     * Errors:
     *   ALREADY_EXISTS SLUG_TAKEN: choose another slug, or DeleteSession the old one.
     *   FAILED_PRECONDITION DIRECTORY_MISSING: make the directory on the host.
     *   FAILED_PRECONDITION AGENT_NOT_INSTALLED: install it as the message says.
     *   FAILED_PRECONDITION SESSION_ENDING: the parent is being killed; give up.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   RESOURCE_EXHAUSTED HOST_FULL: wait for a session's end or choose another host.
     *   RESOURCE_EXHAUSTED CHILD_LIMIT: the parent has 32 live children or is 4 deep.
     *   UNAVAILABLE NO_HOST: no live host has room and the agent; retry as RetryInfo says.
     *   UNAVAILABLE HOST_UNREACHABLE: the named host is away; retry.
     * </pre>
     */
    default void startSession(dev.bridle.v1.StartSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.StartSessionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStartSessionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads one session.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; see ListSessions.
     * </pre>
     */
    default void getSession(dev.bridle.v1.GetSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.GetSessionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetSessionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists sessions, live ones and ended ones.
     * Errors: those of every call.
     * </pre>
     */
    default void listSessions(dev.bridle.v1.ListSessionsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListSessionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListSessionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Changes title, labels or policy. A policy that is changed holds from the next
     * decision on.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    default void updateSession(dev.bridle.v1.UpdateSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.UpdateSessionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getUpdateSessionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Deletes an ended session with its log, revokes its tokens and ends its watches
     * (NOT_FOUND). The slug is free at once; the id stays dead.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_LIVE: Stop or Kill it first.
     * </pre>
     */
    default void deleteSession(dev.bridle.v1.DeleteSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.DeleteSessionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteSessionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Gives the agent an input. Accepted in one commit {receipt, input, InputQueued},
     * host present or not: that sequence is the order. The outcome is RAN once a turn has consumed
     * it, NOT_RUN when it was cancelled.
     *   phase      | QUEUE            | STEER            | NOW
     *   STARTING   | queued           | queued (or_queue)| queued, first
     *   IDLE       | starts a turn    | starts a turn    | starts a turn
     *   RUNNING,   | queued           | into the turn    | interrupts, then first
     *   WAITING    |                  |                  |
     *   STOPPING   | FAILED_PRECONDITION SESSION_ENDING
     *   ended      | FAILED_PRECONDITION SESSION_ENDED; with resume_if_ended: Resume, then this input
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDING: wait for the end, then Resume.
     *   FAILED_PRECONDITION SESSION_ENDED: Resume, or send with resume_if_ended.
     *   UNIMPLEMENTED CAPABILITY_MISSING: the agent can't steer or take images; say or_queue.
     *   RESOURCE_EXHAUSTED QUEUE_FULL: wait until inputs were consumed.
     * </pre>
     */
    default void send(dev.bridle.v1.SendRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.SendResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSendMethod(), responseObserver);
    }

    /**
     * <pre>
     * Ends the turn that is on; the agent's process lives, its approvals are void, then
     * the queue goes on by policy. Unnamed, it means the turn that is open when the host
     * applies it. In STARTING, and before a turn has begun, it cancels the head input.
     * With no turn and nothing to cancel: RAN, NO_TURN. In STOPPING it ends the last turn, so
     * that the stop comes sooner. A turn that is named and over: RAN, TURN_ALREADY_ENDED.
     * After TurnEnded{INTERRUPTED} nothing of that turn follows.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED: nothing is running; nothing to do.
     *   UNAVAILABLE HOST_UNREACHABLE: the host did not answer; the interrupt was
     *     withdrawn. Call again; GetCommand tells whether it hit after all.
     * </pre>
     */
    default void interrupt(dev.bridle.v1.InterruptRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.InterruptResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getInterruptMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lets the agent finish its turn (until `grace`, then interrupts it), report what it
     * leaves behind, and end. Cancels what waits in the queue. STARTING: ends once
     * started. STOPPING: RAN, ALREADY_STOPPING; a shorter grace counts. Ended: RAN, ALREADY_ENDED. In
     * force for 24 h where the host is away. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    default void stop(dev.bridle.v1.StopRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.StopResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getStopMethod(), responseObserver);
    }

    /**
     * <pre>
     * Ends the session and its subtree of children now, leaves first. In force for 24 h where
     * a host is away. Ended: RAN, ALREADY_ENDED. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    default void kill(dev.bridle.v1.KillRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.KillResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getKillMethod(), responseObserver);
    }

    /**
     * <pre>
     * Opens the next run of an ended session. AUTO tries the agent's native resume, else a
     * fresh process is seeded with what was kept; SessionResumed says which, and what was
     * lost. On another host only with `host`; while the old host is away and the run is
     * not known to have ended only with `force`, which gives that run up
     * (SessionEnded{FAILED, HOST_ABANDONED, verified=false}) in the same commit.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION SESSION_LIVE: it has not ended; Send to it, or Stop it first.
     *   FAILED_PRECONDITION DIRECTORY_MISSING, AGENT_NOT_INSTALLED: as in StartSession.
     *   FAILED_PRECONDITION START_FAILED: the forced mode is not possible; use AUTO.
     *   RESOURCE_EXHAUSTED HOST_FULL: as in StartSession.
     *   UNAVAILABLE HOST_UNREACHABLE, NO_HOST: retry, or choose another host.
     * </pre>
     */
    default void resume(dev.bridle.v1.ResumeRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ResumeResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getResumeMethod(), responseObserver);
    }

    /**
     * <pre>
     * Answers an approval. The first answer wins.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND APPROVAL_NOT_FOUND: it never was, or its turn is over.
     *   INVALID_ARGUMENT INVALID_REQUEST: `rule` is not about the call, or none can be made of it.
     *   FAILED_PRECONDITION APPROVAL_RESOLVED: somebody was first; the metadata says how.
     * </pre>
     */
    default void respond(dev.bridle.v1.RespondRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RespondResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRespondMethod(), responseObserver);
    }

    /**
     * <pre>
     * Opens a HELD queue. An OPEN one: RAN, without effect.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED, SESSION_ENDING: there is no turn to come.
     * </pre>
     */
    default void releaseQueue(dev.bridle.v1.ReleaseQueueRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ReleaseQueueResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getReleaseQueueMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists a session's inputs in the order of the queue.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    default void listInputs(dev.bridle.v1.ListInputsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListInputsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListInputsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Cancels an input that waits. The host decides: where a turn took it first, the
     * outcome is NOT_RUN and names the turn.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND INPUT_NOT_FOUND: see ListInputs.
     * </pre>
     */
    default void cancelInput(dev.bridle.v1.CancelInputRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CancelInputResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCancelInputMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams events: replays from the cursor, then live, as one stream.
     * Promises, for each session: ORDERED (ascending sequences), UNIQUE (none twice),
     * RELIABLE (none is left out between two that were seen), RESUMABLE (a new Watch from the
     * last seen sequence goes on), BOOKMARKABLE (Progress at n means that all up to n was
     * delivered). Slowness never ends a Watch, only the floor does.
     * How silence is read: at least every 15 s something comes for every target; after 30 s of silence
     * treat the connection as lost and watch again from the cursor. An OK that was not preceded
     * by Progress{ended} is a lost connection.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; also when it is deleted.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     *   OUT_OF_RANGE CURSOR_FOREIGN: the store was restored; start at 0.
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    default void watch(dev.bridle.v1.WatchRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WatchResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams sessions: a snapshot, SnapshotEnd, then upserts and removals. May coalesce.
     * Errors:
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    default void watchSessions(dev.bridle.v1.WatchSessionsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WatchSessionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWatchSessionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads a page of a session's log.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     * </pre>
     */
    default void listEvents(dev.bridle.v1.ListEventsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListEventsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListEventsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads a receipt, and waits for its outcome if asked to.
     * Errors:
     *   NOT_FOUND COMMAND_NOT_FOUND: no such command, or not yours.
     * </pre>
     */
    default void getCommand(dev.bridle.v1.GetCommandRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.GetCommandResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetCommandMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams an artifact that ArtifactsReported named, also after the session has ended, from
     * the host of that run: it stays there until DeleteSession. What is read is what is there
     * now; an agent that lives may change it, and `sha256` of the report tells. Read slowly, or
     * stop, and the host reads no further. At most 32 reads are open for a host.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND ARTIFACT_NOT_FOUND: see ArtifactsReported.
     *   UNAVAILABLE HOST_UNREACHABLE: the run's host is away, or went while you read; try again
     *     when it is back, from the `offset` that you have got to.
     *   RESOURCE_EXHAUSTED RATE_LIMITED: too many reads are open; try again.
     * </pre>
     */
    default void readArtifact(dev.bridle.v1.ReadArtifactRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ReadArtifactResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getReadArtifactMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service SessionService.
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public static abstract class SessionServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return SessionServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service SessionService.
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public static final class SessionServiceStub
      extends io.grpc.stub.AbstractAsyncStub<SessionServiceStub> {
    private SessionServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SessionServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SessionServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Starts a session and its first run. With `prompt`, the first input is accepted in
     * the same commit. A session's own token starts a child of that session.
     * If the host refuses, nothing is left behind.
     * Errors:
     *   ALREADY_EXISTS SLUG_TAKEN: choose another slug, or DeleteSession the old one.
     *   FAILED_PRECONDITION DIRECTORY_MISSING: make the directory on the host.
     *   FAILED_PRECONDITION AGENT_NOT_INSTALLED: install it as the message says.
     *   FAILED_PRECONDITION SESSION_ENDING: the parent is being killed; give up.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   RESOURCE_EXHAUSTED HOST_FULL: wait for a session's end or choose another host.
     *   RESOURCE_EXHAUSTED CHILD_LIMIT: the parent has 32 live children or is 4 deep.
     *   UNAVAILABLE NO_HOST: no live host has room and the agent; retry as RetryInfo says.
     *   UNAVAILABLE HOST_UNREACHABLE: the named host is away; retry.
     * </pre>
     */
    public void startSession(dev.bridle.v1.StartSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.StartSessionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getStartSessionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads one session.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; see ListSessions.
     * </pre>
     */
    public void getSession(dev.bridle.v1.GetSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.GetSessionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetSessionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists sessions, live ones and ended ones.
     * Errors: those of every call.
     * </pre>
     */
    public void listSessions(dev.bridle.v1.ListSessionsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListSessionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListSessionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Changes title, labels or policy. A policy that is changed holds from the next
     * decision on.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public void updateSession(dev.bridle.v1.UpdateSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.UpdateSessionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getUpdateSessionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Deletes an ended session with its log, revokes its tokens and ends its watches
     * (NOT_FOUND). The slug is free at once; the id stays dead.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_LIVE: Stop or Kill it first.
     * </pre>
     */
    public void deleteSession(dev.bridle.v1.DeleteSessionRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.DeleteSessionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteSessionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Gives the agent an input. Accepted in one commit {receipt, input, InputQueued},
     * host present or not: that sequence is the order. The outcome is RAN once a turn has consumed
     * it, NOT_RUN when it was cancelled.
     *   phase      | QUEUE            | STEER            | NOW
     *   STARTING   | queued           | queued (or_queue)| queued, first
     *   IDLE       | starts a turn    | starts a turn    | starts a turn
     *   RUNNING,   | queued           | into the turn    | interrupts, then first
     *   WAITING    |                  |                  |
     *   STOPPING   | FAILED_PRECONDITION SESSION_ENDING
     *   ended      | FAILED_PRECONDITION SESSION_ENDED; with resume_if_ended: Resume, then this input
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDING: wait for the end, then Resume.
     *   FAILED_PRECONDITION SESSION_ENDED: Resume, or send with resume_if_ended.
     *   UNIMPLEMENTED CAPABILITY_MISSING: the agent can't steer or take images; say or_queue.
     *   RESOURCE_EXHAUSTED QUEUE_FULL: wait until inputs were consumed.
     * </pre>
     */
    public void send(dev.bridle.v1.SendRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.SendResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSendMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Ends the turn that is on; the agent's process lives, its approvals are void, then
     * the queue goes on by policy. Unnamed, it means the turn that is open when the host
     * applies it. In STARTING, and before a turn has begun, it cancels the head input.
     * With no turn and nothing to cancel: RAN, NO_TURN. In STOPPING it ends the last turn, so
     * that the stop comes sooner. A turn that is named and over: RAN, TURN_ALREADY_ENDED.
     * After TurnEnded{INTERRUPTED} nothing of that turn follows.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED: nothing is running; nothing to do.
     *   UNAVAILABLE HOST_UNREACHABLE: the host did not answer; the interrupt was
     *     withdrawn. Call again; GetCommand tells whether it hit after all.
     * </pre>
     */
    public void interrupt(dev.bridle.v1.InterruptRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.InterruptResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getInterruptMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lets the agent finish its turn (until `grace`, then interrupts it), report what it
     * leaves behind, and end. Cancels what waits in the queue. STARTING: ends once
     * started. STOPPING: RAN, ALREADY_STOPPING; a shorter grace counts. Ended: RAN, ALREADY_ENDED. In
     * force for 24 h where the host is away. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public void stop(dev.bridle.v1.StopRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.StopResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getStopMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Ends the session and its subtree of children now, leaves first. In force for 24 h where
     * a host is away. Ended: RAN, ALREADY_ENDED. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public void kill(dev.bridle.v1.KillRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.KillResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getKillMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Opens the next run of an ended session. AUTO tries the agent's native resume, else a
     * fresh process is seeded with what was kept; SessionResumed says which, and what was
     * lost. On another host only with `host`; while the old host is away and the run is
     * not known to have ended only with `force`, which gives that run up
     * (SessionEnded{FAILED, HOST_ABANDONED, verified=false}) in the same commit.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION SESSION_LIVE: it has not ended; Send to it, or Stop it first.
     *   FAILED_PRECONDITION DIRECTORY_MISSING, AGENT_NOT_INSTALLED: as in StartSession.
     *   FAILED_PRECONDITION START_FAILED: the forced mode is not possible; use AUTO.
     *   RESOURCE_EXHAUSTED HOST_FULL: as in StartSession.
     *   UNAVAILABLE HOST_UNREACHABLE, NO_HOST: retry, or choose another host.
     * </pre>
     */
    public void resume(dev.bridle.v1.ResumeRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ResumeResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getResumeMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Answers an approval. The first answer wins.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND APPROVAL_NOT_FOUND: it never was, or its turn is over.
     *   INVALID_ARGUMENT INVALID_REQUEST: `rule` is not about the call, or none can be made of it.
     *   FAILED_PRECONDITION APPROVAL_RESOLVED: somebody was first; the metadata says how.
     * </pre>
     */
    public void respond(dev.bridle.v1.RespondRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RespondResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRespondMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Opens a HELD queue. An OPEN one: RAN, without effect.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED, SESSION_ENDING: there is no turn to come.
     * </pre>
     */
    public void releaseQueue(dev.bridle.v1.ReleaseQueueRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ReleaseQueueResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getReleaseQueueMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists a session's inputs in the order of the queue.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public void listInputs(dev.bridle.v1.ListInputsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListInputsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListInputsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Cancels an input that waits. The host decides: where a turn took it first, the
     * outcome is NOT_RUN and names the turn.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND INPUT_NOT_FOUND: see ListInputs.
     * </pre>
     */
    public void cancelInput(dev.bridle.v1.CancelInputRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CancelInputResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCancelInputMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams events: replays from the cursor, then live, as one stream.
     * Promises, for each session: ORDERED (ascending sequences), UNIQUE (none twice),
     * RELIABLE (none is left out between two that were seen), RESUMABLE (a new Watch from the
     * last seen sequence goes on), BOOKMARKABLE (Progress at n means that all up to n was
     * delivered). Slowness never ends a Watch, only the floor does.
     * How silence is read: at least every 15 s something comes for every target; after 30 s of silence
     * treat the connection as lost and watch again from the cursor. An OK that was not preceded
     * by Progress{ended} is a lost connection.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; also when it is deleted.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     *   OUT_OF_RANGE CURSOR_FOREIGN: the store was restored; start at 0.
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    public void watch(dev.bridle.v1.WatchRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WatchResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams sessions: a snapshot, SnapshotEnd, then upserts and removals. May coalesce.
     * Errors:
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    public void watchSessions(dev.bridle.v1.WatchSessionsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WatchSessionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getWatchSessionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads a page of a session's log.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     * </pre>
     */
    public void listEvents(dev.bridle.v1.ListEventsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListEventsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListEventsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads a receipt, and waits for its outcome if asked to.
     * Errors:
     *   NOT_FOUND COMMAND_NOT_FOUND: no such command, or not yours.
     * </pre>
     */
    public void getCommand(dev.bridle.v1.GetCommandRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.GetCommandResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetCommandMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams an artifact that ArtifactsReported named, also after the session has ended, from
     * the host of that run: it stays there until DeleteSession. What is read is what is there
     * now; an agent that lives may change it, and `sha256` of the report tells. Read slowly, or
     * stop, and the host reads no further. At most 32 reads are open for a host.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND ARTIFACT_NOT_FOUND: see ArtifactsReported.
     *   UNAVAILABLE HOST_UNREACHABLE: the run's host is away, or went while you read; try again
     *     when it is back, from the `offset` that you have got to.
     *   RESOURCE_EXHAUSTED RATE_LIMITED: too many reads are open; try again.
     * </pre>
     */
    public void readArtifact(dev.bridle.v1.ReadArtifactRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ReadArtifactResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getReadArtifactMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service SessionService.
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public static final class SessionServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<SessionServiceBlockingV2Stub> {
    private SessionServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SessionServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SessionServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Starts a session and its first run. With `prompt`, the first input is accepted in
     * the same commit. A session's own token starts a child of that session.
     * If the host refuses, nothing is left behind.
     * Errors:
     *   ALREADY_EXISTS SLUG_TAKEN: choose another slug, or DeleteSession the old one.
     *   FAILED_PRECONDITION DIRECTORY_MISSING: make the directory on the host.
     *   FAILED_PRECONDITION AGENT_NOT_INSTALLED: install it as the message says.
     *   FAILED_PRECONDITION SESSION_ENDING: the parent is being killed; give up.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   RESOURCE_EXHAUSTED HOST_FULL: wait for a session's end or choose another host.
     *   RESOURCE_EXHAUSTED CHILD_LIMIT: the parent has 32 live children or is 4 deep.
     *   UNAVAILABLE NO_HOST: no live host has room and the agent; retry as RetryInfo says.
     *   UNAVAILABLE HOST_UNREACHABLE: the named host is away; retry.
     * </pre>
     */
    public dev.bridle.v1.StartSessionResponse startSession(dev.bridle.v1.StartSessionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getStartSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads one session.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; see ListSessions.
     * </pre>
     */
    public dev.bridle.v1.GetSessionResponse getSession(dev.bridle.v1.GetSessionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists sessions, live ones and ended ones.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListSessionsResponse listSessions(dev.bridle.v1.ListSessionsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListSessionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes title, labels or policy. A policy that is changed holds from the next
     * decision on.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.UpdateSessionResponse updateSession(dev.bridle.v1.UpdateSessionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getUpdateSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes an ended session with its log, revokes its tokens and ends its watches
     * (NOT_FOUND). The slug is free at once; the id stays dead.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_LIVE: Stop or Kill it first.
     * </pre>
     */
    public dev.bridle.v1.DeleteSessionResponse deleteSession(dev.bridle.v1.DeleteSessionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives the agent an input. Accepted in one commit {receipt, input, InputQueued},
     * host present or not: that sequence is the order. The outcome is RAN once a turn has consumed
     * it, NOT_RUN when it was cancelled.
     *   phase      | QUEUE            | STEER            | NOW
     *   STARTING   | queued           | queued (or_queue)| queued, first
     *   IDLE       | starts a turn    | starts a turn    | starts a turn
     *   RUNNING,   | queued           | into the turn    | interrupts, then first
     *   WAITING    |                  |                  |
     *   STOPPING   | FAILED_PRECONDITION SESSION_ENDING
     *   ended      | FAILED_PRECONDITION SESSION_ENDED; with resume_if_ended: Resume, then this input
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDING: wait for the end, then Resume.
     *   FAILED_PRECONDITION SESSION_ENDED: Resume, or send with resume_if_ended.
     *   UNIMPLEMENTED CAPABILITY_MISSING: the agent can't steer or take images; say or_queue.
     *   RESOURCE_EXHAUSTED QUEUE_FULL: wait until inputs were consumed.
     * </pre>
     */
    public dev.bridle.v1.SendResponse send(dev.bridle.v1.SendRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getSendMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the turn that is on; the agent's process lives, its approvals are void, then
     * the queue goes on by policy. Unnamed, it means the turn that is open when the host
     * applies it. In STARTING, and before a turn has begun, it cancels the head input.
     * With no turn and nothing to cancel: RAN, NO_TURN. In STOPPING it ends the last turn, so
     * that the stop comes sooner. A turn that is named and over: RAN, TURN_ALREADY_ENDED.
     * After TurnEnded{INTERRUPTED} nothing of that turn follows.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED: nothing is running; nothing to do.
     *   UNAVAILABLE HOST_UNREACHABLE: the host did not answer; the interrupt was
     *     withdrawn. Call again; GetCommand tells whether it hit after all.
     * </pre>
     */
    public dev.bridle.v1.InterruptResponse interrupt(dev.bridle.v1.InterruptRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getInterruptMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lets the agent finish its turn (until `grace`, then interrupts it), report what it
     * leaves behind, and end. Cancels what waits in the queue. STARTING: ends once
     * started. STOPPING: RAN, ALREADY_STOPPING; a shorter grace counts. Ended: RAN, ALREADY_ENDED. In
     * force for 24 h where the host is away. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.StopResponse stop(dev.bridle.v1.StopRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getStopMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the session and its subtree of children now, leaves first. In force for 24 h where
     * a host is away. Ended: RAN, ALREADY_ENDED. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.KillResponse kill(dev.bridle.v1.KillRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getKillMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens the next run of an ended session. AUTO tries the agent's native resume, else a
     * fresh process is seeded with what was kept; SessionResumed says which, and what was
     * lost. On another host only with `host`; while the old host is away and the run is
     * not known to have ended only with `force`, which gives that run up
     * (SessionEnded{FAILED, HOST_ABANDONED, verified=false}) in the same commit.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION SESSION_LIVE: it has not ended; Send to it, or Stop it first.
     *   FAILED_PRECONDITION DIRECTORY_MISSING, AGENT_NOT_INSTALLED: as in StartSession.
     *   FAILED_PRECONDITION START_FAILED: the forced mode is not possible; use AUTO.
     *   RESOURCE_EXHAUSTED HOST_FULL: as in StartSession.
     *   UNAVAILABLE HOST_UNREACHABLE, NO_HOST: retry, or choose another host.
     * </pre>
     */
    public dev.bridle.v1.ResumeResponse resume(dev.bridle.v1.ResumeRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getResumeMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Answers an approval. The first answer wins.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND APPROVAL_NOT_FOUND: it never was, or its turn is over.
     *   INVALID_ARGUMENT INVALID_REQUEST: `rule` is not about the call, or none can be made of it.
     *   FAILED_PRECONDITION APPROVAL_RESOLVED: somebody was first; the metadata says how.
     * </pre>
     */
    public dev.bridle.v1.RespondResponse respond(dev.bridle.v1.RespondRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRespondMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens a HELD queue. An OPEN one: RAN, without effect.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED, SESSION_ENDING: there is no turn to come.
     * </pre>
     */
    public dev.bridle.v1.ReleaseQueueResponse releaseQueue(dev.bridle.v1.ReleaseQueueRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getReleaseQueueMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists a session's inputs in the order of the queue.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.ListInputsResponse listInputs(dev.bridle.v1.ListInputsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListInputsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels an input that waits. The host decides: where a turn took it first, the
     * outcome is NOT_RUN and names the turn.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND INPUT_NOT_FOUND: see ListInputs.
     * </pre>
     */
    public dev.bridle.v1.CancelInputResponse cancelInput(dev.bridle.v1.CancelInputRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCancelInputMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams events: replays from the cursor, then live, as one stream.
     * Promises, for each session: ORDERED (ascending sequences), UNIQUE (none twice),
     * RELIABLE (none is left out between two that were seen), RESUMABLE (a new Watch from the
     * last seen sequence goes on), BOOKMARKABLE (Progress at n means that all up to n was
     * delivered). Slowness never ends a Watch, only the floor does.
     * How silence is read: at least every 15 s something comes for every target; after 30 s of silence
     * treat the connection as lost and watch again from the cursor. An OK that was not preceded
     * by Progress{ended} is a lost connection.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; also when it is deleted.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     *   OUT_OF_RANGE CURSOR_FOREIGN: the store was restored; start at 0.
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.bridle.v1.WatchResponse>
        watch(dev.bridle.v1.WatchRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams sessions: a snapshot, SnapshotEnd, then upserts and removals. May coalesce.
     * Errors:
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.bridle.v1.WatchSessionsResponse>
        watchSessions(dev.bridle.v1.WatchSessionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getWatchSessionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a page of a session's log.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     * </pre>
     */
    public dev.bridle.v1.ListEventsResponse listEvents(dev.bridle.v1.ListEventsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListEventsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a receipt, and waits for its outcome if asked to.
     * Errors:
     *   NOT_FOUND COMMAND_NOT_FOUND: no such command, or not yours.
     * </pre>
     */
    public dev.bridle.v1.GetCommandResponse getCommand(dev.bridle.v1.GetCommandRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetCommandMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams an artifact that ArtifactsReported named, also after the session has ended, from
     * the host of that run: it stays there until DeleteSession. What is read is what is there
     * now; an agent that lives may change it, and `sha256` of the report tells. Read slowly, or
     * stop, and the host reads no further. At most 32 reads are open for a host.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND ARTIFACT_NOT_FOUND: see ArtifactsReported.
     *   UNAVAILABLE HOST_UNREACHABLE: the run's host is away, or went while you read; try again
     *     when it is back, from the `offset` that you have got to.
     *   RESOURCE_EXHAUSTED RATE_LIMITED: too many reads are open; try again.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, dev.bridle.v1.ReadArtifactResponse>
        readArtifact(dev.bridle.v1.ReadArtifactRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getReadArtifactMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service SessionService.
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public static final class SessionServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<SessionServiceBlockingStub> {
    private SessionServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SessionServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SessionServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Starts a session and its first run. With `prompt`, the first input is accepted in
     * the same commit. A session's own token starts a child of that session.
     * If the host refuses, nothing is left behind.
     * Errors:
     *   ALREADY_EXISTS SLUG_TAKEN: choose another slug, or DeleteSession the old one.
     *   FAILED_PRECONDITION DIRECTORY_MISSING: make the directory on the host.
     *   FAILED_PRECONDITION AGENT_NOT_INSTALLED: install it as the message says.
     *   FAILED_PRECONDITION SESSION_ENDING: the parent is being killed; give up.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   RESOURCE_EXHAUSTED HOST_FULL: wait for a session's end or choose another host.
     *   RESOURCE_EXHAUSTED CHILD_LIMIT: the parent has 32 live children or is 4 deep.
     *   UNAVAILABLE NO_HOST: no live host has room and the agent; retry as RetryInfo says.
     *   UNAVAILABLE HOST_UNREACHABLE: the named host is away; retry.
     * </pre>
     */
    public dev.bridle.v1.StartSessionResponse startSession(dev.bridle.v1.StartSessionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getStartSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads one session.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; see ListSessions.
     * </pre>
     */
    public dev.bridle.v1.GetSessionResponse getSession(dev.bridle.v1.GetSessionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists sessions, live ones and ended ones.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListSessionsResponse listSessions(dev.bridle.v1.ListSessionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListSessionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Changes title, labels or policy. A policy that is changed holds from the next
     * decision on.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.UpdateSessionResponse updateSession(dev.bridle.v1.UpdateSessionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getUpdateSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Deletes an ended session with its log, revokes its tokens and ends its watches
     * (NOT_FOUND). The slug is free at once; the id stays dead.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_LIVE: Stop or Kill it first.
     * </pre>
     */
    public dev.bridle.v1.DeleteSessionResponse deleteSession(dev.bridle.v1.DeleteSessionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteSessionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Gives the agent an input. Accepted in one commit {receipt, input, InputQueued},
     * host present or not: that sequence is the order. The outcome is RAN once a turn has consumed
     * it, NOT_RUN when it was cancelled.
     *   phase      | QUEUE            | STEER            | NOW
     *   STARTING   | queued           | queued (or_queue)| queued, first
     *   IDLE       | starts a turn    | starts a turn    | starts a turn
     *   RUNNING,   | queued           | into the turn    | interrupts, then first
     *   WAITING    |                  |                  |
     *   STOPPING   | FAILED_PRECONDITION SESSION_ENDING
     *   ended      | FAILED_PRECONDITION SESSION_ENDED; with resume_if_ended: Resume, then this input
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDING: wait for the end, then Resume.
     *   FAILED_PRECONDITION SESSION_ENDED: Resume, or send with resume_if_ended.
     *   UNIMPLEMENTED CAPABILITY_MISSING: the agent can't steer or take images; say or_queue.
     *   RESOURCE_EXHAUSTED QUEUE_FULL: wait until inputs were consumed.
     * </pre>
     */
    public dev.bridle.v1.SendResponse send(dev.bridle.v1.SendRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSendMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the turn that is on; the agent's process lives, its approvals are void, then
     * the queue goes on by policy. Unnamed, it means the turn that is open when the host
     * applies it. In STARTING, and before a turn has begun, it cancels the head input.
     * With no turn and nothing to cancel: RAN, NO_TURN. In STOPPING it ends the last turn, so
     * that the stop comes sooner. A turn that is named and over: RAN, TURN_ALREADY_ENDED.
     * After TurnEnded{INTERRUPTED} nothing of that turn follows.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED: nothing is running; nothing to do.
     *   UNAVAILABLE HOST_UNREACHABLE: the host did not answer; the interrupt was
     *     withdrawn. Call again; GetCommand tells whether it hit after all.
     * </pre>
     */
    public dev.bridle.v1.InterruptResponse interrupt(dev.bridle.v1.InterruptRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getInterruptMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lets the agent finish its turn (until `grace`, then interrupts it), report what it
     * leaves behind, and end. Cancels what waits in the queue. STARTING: ends once
     * started. STOPPING: RAN, ALREADY_STOPPING; a shorter grace counts. Ended: RAN, ALREADY_ENDED. In
     * force for 24 h where the host is away. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.StopResponse stop(dev.bridle.v1.StopRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getStopMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Ends the session and its subtree of children now, leaves first. In force for 24 h where
     * a host is away. Ended: RAN, ALREADY_ENDED. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.KillResponse kill(dev.bridle.v1.KillRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getKillMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens the next run of an ended session. AUTO tries the agent's native resume, else a
     * fresh process is seeded with what was kept; SessionResumed says which, and what was
     * lost. On another host only with `host`; while the old host is away and the run is
     * not known to have ended only with `force`, which gives that run up
     * (SessionEnded{FAILED, HOST_ABANDONED, verified=false}) in the same commit.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION SESSION_LIVE: it has not ended; Send to it, or Stop it first.
     *   FAILED_PRECONDITION DIRECTORY_MISSING, AGENT_NOT_INSTALLED: as in StartSession.
     *   FAILED_PRECONDITION START_FAILED: the forced mode is not possible; use AUTO.
     *   RESOURCE_EXHAUSTED HOST_FULL: as in StartSession.
     *   UNAVAILABLE HOST_UNREACHABLE, NO_HOST: retry, or choose another host.
     * </pre>
     */
    public dev.bridle.v1.ResumeResponse resume(dev.bridle.v1.ResumeRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getResumeMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Answers an approval. The first answer wins.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND APPROVAL_NOT_FOUND: it never was, or its turn is over.
     *   INVALID_ARGUMENT INVALID_REQUEST: `rule` is not about the call, or none can be made of it.
     *   FAILED_PRECONDITION APPROVAL_RESOLVED: somebody was first; the metadata says how.
     * </pre>
     */
    public dev.bridle.v1.RespondResponse respond(dev.bridle.v1.RespondRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRespondMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Opens a HELD queue. An OPEN one: RAN, without effect.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED, SESSION_ENDING: there is no turn to come.
     * </pre>
     */
    public dev.bridle.v1.ReleaseQueueResponse releaseQueue(dev.bridle.v1.ReleaseQueueRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getReleaseQueueMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists a session's inputs in the order of the queue.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public dev.bridle.v1.ListInputsResponse listInputs(dev.bridle.v1.ListInputsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListInputsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Cancels an input that waits. The host decides: where a turn took it first, the
     * outcome is NOT_RUN and names the turn.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND INPUT_NOT_FOUND: see ListInputs.
     * </pre>
     */
    public dev.bridle.v1.CancelInputResponse cancelInput(dev.bridle.v1.CancelInputRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCancelInputMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams events: replays from the cursor, then live, as one stream.
     * Promises, for each session: ORDERED (ascending sequences), UNIQUE (none twice),
     * RELIABLE (none is left out between two that were seen), RESUMABLE (a new Watch from the
     * last seen sequence goes on), BOOKMARKABLE (Progress at n means that all up to n was
     * delivered). Slowness never ends a Watch, only the floor does.
     * How silence is read: at least every 15 s something comes for every target; after 30 s of silence
     * treat the connection as lost and watch again from the cursor. An OK that was not preceded
     * by Progress{ended} is a lost connection.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; also when it is deleted.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     *   OUT_OF_RANGE CURSOR_FOREIGN: the store was restored; start at 0.
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    public java.util.Iterator<dev.bridle.v1.WatchResponse> watch(
        dev.bridle.v1.WatchRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams sessions: a snapshot, SnapshotEnd, then upserts and removals. May coalesce.
     * Errors:
     *   RESOURCE_EXHAUSTED TOO_MANY_WATCHES: end some.
     * </pre>
     */
    public java.util.Iterator<dev.bridle.v1.WatchSessionsResponse> watchSessions(
        dev.bridle.v1.WatchSessionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getWatchSessionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a page of a session's log.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     * </pre>
     */
    public dev.bridle.v1.ListEventsResponse listEvents(dev.bridle.v1.ListEventsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListEventsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a receipt, and waits for its outcome if asked to.
     * Errors:
     *   NOT_FOUND COMMAND_NOT_FOUND: no such command, or not yours.
     * </pre>
     */
    public dev.bridle.v1.GetCommandResponse getCommand(dev.bridle.v1.GetCommandRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetCommandMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams an artifact that ArtifactsReported named, also after the session has ended, from
     * the host of that run: it stays there until DeleteSession. What is read is what is there
     * now; an agent that lives may change it, and `sha256` of the report tells. Read slowly, or
     * stop, and the host reads no further. At most 32 reads are open for a host.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND ARTIFACT_NOT_FOUND: see ArtifactsReported.
     *   UNAVAILABLE HOST_UNREACHABLE: the run's host is away, or went while you read; try again
     *     when it is back, from the `offset` that you have got to.
     *   RESOURCE_EXHAUSTED RATE_LIMITED: too many reads are open; try again.
     * </pre>
     */
    public java.util.Iterator<dev.bridle.v1.ReadArtifactResponse> readArtifact(
        dev.bridle.v1.ReadArtifactRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getReadArtifactMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service SessionService.
   * <pre>
   * Sessions, and the verbs that steer them.
   * WHO CALLS. Any holder of a token with the right; an agent, by its session's own
   * token, for itself and its children. Metadata: `authorization: Bearer TOKEN`.
   * WHAT BLOCKS. A verb is first committed by control, then handed to the session's
   * host. The call answers when the host has journaled its answer, at the latest
   * after min(5 s, deadline − max(100 ms, 10 %)); by then the receipt may still say
   * PENDING. GetCommand waits for the outcome. Nothing acknowledged is ever lost.
   * SAFE TO REPEAT. Every request that changes something carries `request_id`, a
   * UUID (version 7) that the caller makes, scoped to workspace and principal. The same id with
   * the same body gets the same receipt for at least 7 days, over restarts; with
   * another body ALREADY_EXISTS REQUEST_ID_REUSED; an id that is older than that and unknown
   * FAILED_PRECONDITION REQUEST_ID_EXPIRED, and is never run. Without an id the
   * server makes one and promises nothing about repeats. So: after UNAVAILABLE,
   * DEADLINE_EXCEEDED or a broken connection, send the same request again.
   * ERRORS OF EVERY CALL, beside those that each RPC lists:
   *   UNAUTHENTICATED TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED: get a token.
   *   PERMISSION_DENIED NOT_ALLOWED: ask for the right that the metadata names.
   *   INVALID_ARGUMENT INVALID_REQUEST: mend the fields that BadRequest names.
   *   NOT_FOUND WORKSPACE_NOT_FOUND: no such workspace, or not yours; the words are the same.
   *   RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE: send less. RATE_LIMITED: wait as RetryInfo says.
   *   RESOURCE_EXHAUSTED STORE_FULL: free room; reads, Interrupt, Stop and Kill go on.
   *   UNAVAILABLE SHUTTING_DOWN: call again with the same request id.
   *   DATA_LOSS LOG_CORRUPT: restore the store. INTERNAL: look the id up in control's log.
   * </pre>
   */
  public static final class SessionServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<SessionServiceFutureStub> {
    private SessionServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected SessionServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new SessionServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Starts a session and its first run. With `prompt`, the first input is accepted in
     * the same commit. A session's own token starts a child of that session.
     * If the host refuses, nothing is left behind.
     * Errors:
     *   ALREADY_EXISTS SLUG_TAKEN: choose another slug, or DeleteSession the old one.
     *   FAILED_PRECONDITION DIRECTORY_MISSING: make the directory on the host.
     *   FAILED_PRECONDITION AGENT_NOT_INSTALLED: install it as the message says.
     *   FAILED_PRECONDITION SESSION_ENDING: the parent is being killed; give up.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   RESOURCE_EXHAUSTED HOST_FULL: wait for a session's end or choose another host.
     *   RESOURCE_EXHAUSTED CHILD_LIMIT: the parent has 32 live children or is 4 deep.
     *   UNAVAILABLE NO_HOST: no live host has room and the agent; retry as RetryInfo says.
     *   UNAVAILABLE HOST_UNREACHABLE: the named host is away; retry.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.StartSessionResponse> startSession(
        dev.bridle.v1.StartSessionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getStartSessionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads one session.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace; see ListSessions.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.GetSessionResponse> getSession(
        dev.bridle.v1.GetSessionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetSessionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists sessions, live ones and ended ones.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListSessionsResponse> listSessions(
        dev.bridle.v1.ListSessionsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListSessionsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Changes title, labels or policy. A policy that is changed holds from the next
     * decision on.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.UpdateSessionResponse> updateSession(
        dev.bridle.v1.UpdateSessionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getUpdateSessionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Deletes an ended session with its log, revokes its tokens and ends its watches
     * (NOT_FOUND). The slug is free at once; the id stays dead.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_LIVE: Stop or Kill it first.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.DeleteSessionResponse> deleteSession(
        dev.bridle.v1.DeleteSessionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteSessionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Gives the agent an input. Accepted in one commit {receipt, input, InputQueued},
     * host present or not: that sequence is the order. The outcome is RAN once a turn has consumed
     * it, NOT_RUN when it was cancelled.
     *   phase      | QUEUE            | STEER            | NOW
     *   STARTING   | queued           | queued (or_queue)| queued, first
     *   IDLE       | starts a turn    | starts a turn    | starts a turn
     *   RUNNING,   | queued           | into the turn    | interrupts, then first
     *   WAITING    |                  |                  |
     *   STOPPING   | FAILED_PRECONDITION SESSION_ENDING
     *   ended      | FAILED_PRECONDITION SESSION_ENDED; with resume_if_ended: Resume, then this input
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDING: wait for the end, then Resume.
     *   FAILED_PRECONDITION SESSION_ENDED: Resume, or send with resume_if_ended.
     *   UNIMPLEMENTED CAPABILITY_MISSING: the agent can't steer or take images; say or_queue.
     *   RESOURCE_EXHAUSTED QUEUE_FULL: wait until inputs were consumed.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.SendResponse> send(
        dev.bridle.v1.SendRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSendMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Ends the turn that is on; the agent's process lives, its approvals are void, then
     * the queue goes on by policy. Unnamed, it means the turn that is open when the host
     * applies it. In STARTING, and before a turn has begun, it cancels the head input.
     * With no turn and nothing to cancel: RAN, NO_TURN. In STOPPING it ends the last turn, so
     * that the stop comes sooner. A turn that is named and over: RAN, TURN_ALREADY_ENDED.
     * After TurnEnded{INTERRUPTED} nothing of that turn follows.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED: nothing is running; nothing to do.
     *   UNAVAILABLE HOST_UNREACHABLE: the host did not answer; the interrupt was
     *     withdrawn. Call again; GetCommand tells whether it hit after all.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.InterruptResponse> interrupt(
        dev.bridle.v1.InterruptRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getInterruptMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lets the agent finish its turn (until `grace`, then interrupts it), report what it
     * leaves behind, and end. Cancels what waits in the queue. STARTING: ends once
     * started. STOPPING: RAN, ALREADY_STOPPING; a shorter grace counts. Ended: RAN, ALREADY_ENDED. In
     * force for 24 h where the host is away. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.StopResponse> stop(
        dev.bridle.v1.StopRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getStopMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Ends the session and its subtree of children now, leaves first. In force for 24 h where
     * a host is away. Ended: RAN, ALREADY_ENDED. The outcome is RAN at SessionEnded.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.KillResponse> kill(
        dev.bridle.v1.KillRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getKillMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Opens the next run of an ended session. AUTO tries the agent's native resume, else a
     * fresh process is seeded with what was kept; SessionResumed says which, and what was
     * lost. On another host only with `host`; while the old host is away and the run is
     * not known to have ended only with `force`, which gives that run up
     * (SessionEnded{FAILED, HOST_ABANDONED, verified=false}) in the same commit.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION SESSION_LIVE: it has not ended; Send to it, or Stop it first.
     *   FAILED_PRECONDITION DIRECTORY_MISSING, AGENT_NOT_INSTALLED: as in StartSession.
     *   FAILED_PRECONDITION START_FAILED: the forced mode is not possible; use AUTO.
     *   RESOURCE_EXHAUSTED HOST_FULL: as in StartSession.
     *   UNAVAILABLE HOST_UNREACHABLE, NO_HOST: retry, or choose another host.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ResumeResponse> resume(
        dev.bridle.v1.ResumeRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getResumeMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Answers an approval. The first answer wins.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND APPROVAL_NOT_FOUND: it never was, or its turn is over.
     *   INVALID_ARGUMENT INVALID_REQUEST: `rule` is not about the call, or none can be made of it.
     *   FAILED_PRECONDITION APPROVAL_RESOLVED: somebody was first; the metadata says how.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.RespondResponse> respond(
        dev.bridle.v1.RespondRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRespondMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Opens a HELD queue. An OPEN one: RAN, without effect.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   FAILED_PRECONDITION SESSION_ENDED, SESSION_ENDING: there is no turn to come.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ReleaseQueueResponse> releaseQueue(
        dev.bridle.v1.ReleaseQueueRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getReleaseQueueMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists a session's inputs in the order of the queue.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListInputsResponse> listInputs(
        dev.bridle.v1.ListInputsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListInputsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Cancels an input that waits. The host decides: where a turn took it first, the
     * outcome is NOT_RUN and names the turn.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   NOT_FOUND INPUT_NOT_FOUND: see ListInputs.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.CancelInputResponse> cancelInput(
        dev.bridle.v1.CancelInputRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCancelInputMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads a page of a session's log.
     * Errors:
     *   NOT_FOUND SESSION_NOT_FOUND: check slug and workspace.
     *   OUT_OF_RANGE CURSOR_COMPACTED: start at the floor that the metadata names, or at 0.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListEventsResponse> listEvents(
        dev.bridle.v1.ListEventsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListEventsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads a receipt, and waits for its outcome if asked to.
     * Errors:
     *   NOT_FOUND COMMAND_NOT_FOUND: no such command, or not yours.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.GetCommandResponse> getCommand(
        dev.bridle.v1.GetCommandRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetCommandMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_START_SESSION = 0;
  private static final int METHODID_GET_SESSION = 1;
  private static final int METHODID_LIST_SESSIONS = 2;
  private static final int METHODID_UPDATE_SESSION = 3;
  private static final int METHODID_DELETE_SESSION = 4;
  private static final int METHODID_SEND = 5;
  private static final int METHODID_INTERRUPT = 6;
  private static final int METHODID_STOP = 7;
  private static final int METHODID_KILL = 8;
  private static final int METHODID_RESUME = 9;
  private static final int METHODID_RESPOND = 10;
  private static final int METHODID_RELEASE_QUEUE = 11;
  private static final int METHODID_LIST_INPUTS = 12;
  private static final int METHODID_CANCEL_INPUT = 13;
  private static final int METHODID_WATCH = 14;
  private static final int METHODID_WATCH_SESSIONS = 15;
  private static final int METHODID_LIST_EVENTS = 16;
  private static final int METHODID_GET_COMMAND = 17;
  private static final int METHODID_READ_ARTIFACT = 18;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_START_SESSION:
          serviceImpl.startSession((dev.bridle.v1.StartSessionRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.StartSessionResponse>) responseObserver);
          break;
        case METHODID_GET_SESSION:
          serviceImpl.getSession((dev.bridle.v1.GetSessionRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.GetSessionResponse>) responseObserver);
          break;
        case METHODID_LIST_SESSIONS:
          serviceImpl.listSessions((dev.bridle.v1.ListSessionsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListSessionsResponse>) responseObserver);
          break;
        case METHODID_UPDATE_SESSION:
          serviceImpl.updateSession((dev.bridle.v1.UpdateSessionRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.UpdateSessionResponse>) responseObserver);
          break;
        case METHODID_DELETE_SESSION:
          serviceImpl.deleteSession((dev.bridle.v1.DeleteSessionRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.DeleteSessionResponse>) responseObserver);
          break;
        case METHODID_SEND:
          serviceImpl.send((dev.bridle.v1.SendRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.SendResponse>) responseObserver);
          break;
        case METHODID_INTERRUPT:
          serviceImpl.interrupt((dev.bridle.v1.InterruptRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.InterruptResponse>) responseObserver);
          break;
        case METHODID_STOP:
          serviceImpl.stop((dev.bridle.v1.StopRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.StopResponse>) responseObserver);
          break;
        case METHODID_KILL:
          serviceImpl.kill((dev.bridle.v1.KillRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.KillResponse>) responseObserver);
          break;
        case METHODID_RESUME:
          serviceImpl.resume((dev.bridle.v1.ResumeRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ResumeResponse>) responseObserver);
          break;
        case METHODID_RESPOND:
          serviceImpl.respond((dev.bridle.v1.RespondRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.RespondResponse>) responseObserver);
          break;
        case METHODID_RELEASE_QUEUE:
          serviceImpl.releaseQueue((dev.bridle.v1.ReleaseQueueRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ReleaseQueueResponse>) responseObserver);
          break;
        case METHODID_LIST_INPUTS:
          serviceImpl.listInputs((dev.bridle.v1.ListInputsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListInputsResponse>) responseObserver);
          break;
        case METHODID_CANCEL_INPUT:
          serviceImpl.cancelInput((dev.bridle.v1.CancelInputRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.CancelInputResponse>) responseObserver);
          break;
        case METHODID_WATCH:
          serviceImpl.watch((dev.bridle.v1.WatchRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.WatchResponse>) responseObserver);
          break;
        case METHODID_WATCH_SESSIONS:
          serviceImpl.watchSessions((dev.bridle.v1.WatchSessionsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.WatchSessionsResponse>) responseObserver);
          break;
        case METHODID_LIST_EVENTS:
          serviceImpl.listEvents((dev.bridle.v1.ListEventsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListEventsResponse>) responseObserver);
          break;
        case METHODID_GET_COMMAND:
          serviceImpl.getCommand((dev.bridle.v1.GetCommandRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.GetCommandResponse>) responseObserver);
          break;
        case METHODID_READ_ARTIFACT:
          serviceImpl.readArtifact((dev.bridle.v1.ReadArtifactRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ReadArtifactResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getStartSessionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.StartSessionRequest,
              dev.bridle.v1.StartSessionResponse>(
                service, METHODID_START_SESSION)))
        .addMethod(
          getGetSessionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.GetSessionRequest,
              dev.bridle.v1.GetSessionResponse>(
                service, METHODID_GET_SESSION)))
        .addMethod(
          getListSessionsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListSessionsRequest,
              dev.bridle.v1.ListSessionsResponse>(
                service, METHODID_LIST_SESSIONS)))
        .addMethod(
          getUpdateSessionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.UpdateSessionRequest,
              dev.bridle.v1.UpdateSessionResponse>(
                service, METHODID_UPDATE_SESSION)))
        .addMethod(
          getDeleteSessionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.DeleteSessionRequest,
              dev.bridle.v1.DeleteSessionResponse>(
                service, METHODID_DELETE_SESSION)))
        .addMethod(
          getSendMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.SendRequest,
              dev.bridle.v1.SendResponse>(
                service, METHODID_SEND)))
        .addMethod(
          getInterruptMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.InterruptRequest,
              dev.bridle.v1.InterruptResponse>(
                service, METHODID_INTERRUPT)))
        .addMethod(
          getStopMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.StopRequest,
              dev.bridle.v1.StopResponse>(
                service, METHODID_STOP)))
        .addMethod(
          getKillMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.KillRequest,
              dev.bridle.v1.KillResponse>(
                service, METHODID_KILL)))
        .addMethod(
          getResumeMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ResumeRequest,
              dev.bridle.v1.ResumeResponse>(
                service, METHODID_RESUME)))
        .addMethod(
          getRespondMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.RespondRequest,
              dev.bridle.v1.RespondResponse>(
                service, METHODID_RESPOND)))
        .addMethod(
          getReleaseQueueMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ReleaseQueueRequest,
              dev.bridle.v1.ReleaseQueueResponse>(
                service, METHODID_RELEASE_QUEUE)))
        .addMethod(
          getListInputsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListInputsRequest,
              dev.bridle.v1.ListInputsResponse>(
                service, METHODID_LIST_INPUTS)))
        .addMethod(
          getCancelInputMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.CancelInputRequest,
              dev.bridle.v1.CancelInputResponse>(
                service, METHODID_CANCEL_INPUT)))
        .addMethod(
          getWatchMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.bridle.v1.WatchRequest,
              dev.bridle.v1.WatchResponse>(
                service, METHODID_WATCH)))
        .addMethod(
          getWatchSessionsMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.bridle.v1.WatchSessionsRequest,
              dev.bridle.v1.WatchSessionsResponse>(
                service, METHODID_WATCH_SESSIONS)))
        .addMethod(
          getListEventsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListEventsRequest,
              dev.bridle.v1.ListEventsResponse>(
                service, METHODID_LIST_EVENTS)))
        .addMethod(
          getGetCommandMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.GetCommandRequest,
              dev.bridle.v1.GetCommandResponse>(
                service, METHODID_GET_COMMAND)))
        .addMethod(
          getReadArtifactMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              dev.bridle.v1.ReadArtifactRequest,
              dev.bridle.v1.ReadArtifactResponse>(
                service, METHODID_READ_ARTIFACT)))
        .build();
  }

  private static abstract class SessionServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    SessionServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.bridle.v1.SessionServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("SessionService");
    }
  }

  private static final class SessionServiceFileDescriptorSupplier
      extends SessionServiceBaseDescriptorSupplier {
    SessionServiceFileDescriptorSupplier() {}
  }

  private static final class SessionServiceMethodDescriptorSupplier
      extends SessionServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    SessionServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (SessionServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new SessionServiceFileDescriptorSupplier())
              .addMethod(getStartSessionMethod())
              .addMethod(getGetSessionMethod())
              .addMethod(getListSessionsMethod())
              .addMethod(getUpdateSessionMethod())
              .addMethod(getDeleteSessionMethod())
              .addMethod(getSendMethod())
              .addMethod(getInterruptMethod())
              .addMethod(getStopMethod())
              .addMethod(getKillMethod())
              .addMethod(getResumeMethod())
              .addMethod(getRespondMethod())
              .addMethod(getReleaseQueueMethod())
              .addMethod(getListInputsMethod())
              .addMethod(getCancelInputMethod())
              .addMethod(getWatchMethod())
              .addMethod(getWatchSessionsMethod())
              .addMethod(getListEventsMethod())
              .addMethod(getGetCommandMethod())
              .addMethod(getReadArtifactMethod())
              .build();
        }
      }
    }
    return result;
  }
}
