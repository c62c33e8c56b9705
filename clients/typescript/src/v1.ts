/** The messages, enums and services of the contract, bridle.v1. */
export * from "./gen/bridle/v1/content_pb.js";
export * from "./gen/bridle/v1/error_reason_pb.js";
export * from "./gen/bridle/v1/event_pb.js";
export * from "./gen/bridle/v1/host_pb.js";
export * from "./gen/bridle/v1/host_service_pb.js";
export * from "./gen/bridle/v1/identity_pb.js";
export * from "./gen/bridle/v1/identity_service_pb.js";
export * from "./gen/bridle/v1/input_pb.js";
export * from "./gen/bridle/v1/principal_pb.js";
export * from "./gen/bridle/v1/receipt_pb.js";
export * from "./gen/bridle/v1/session_pb.js";
export * from "./gen/bridle/v1/session_service_pb.js";
export * from "./gen/bridle/v1/watch_pb.js";
