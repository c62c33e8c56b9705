/** Where OTEL_EXPORTER_OTLP_ENDPOINT names a collector, the traces of the example go there. */
import { SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

/** Runs the program as one span, the root of all that it makes Bridle do; else it just runs it. */
export async function traced(run: () => Promise<void>): Promise<void> {
  if (!process.env.OTEL_EXPORTER_OTLP_ENDPOINT) return run();
  const provider = new NodeTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ "service.name": "bridle-example-ts" }))
      .merge(detectResources({ detectors: [envDetector] })), // OTEL_SERVICE_NAME has the last word.
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  try {
    await trace.getTracer("example").startActiveSpan("example", async (span) => {
      try {
        await run();
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR });
        throw error;
      } finally {
        span.end();
      }
    });
  } finally {
    // What is not yet with the collector goes there now. That it is not there is no fault of the program.
    await provider.shutdown().catch((error: unknown) => console.warn("traces:", error));
  }
}
