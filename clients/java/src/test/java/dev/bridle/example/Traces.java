package dev.bridle.example;

import io.opentelemetry.api.trace.Span;
import io.opentelemetry.context.Scope;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.util.Map;

/**
 * Where OTEL_EXPORTER_OTLP_ENDPOINT names a collector, the traces of the example go there, below one
 * span for the whole program; else nothing is traced.
 */
final class Traces implements AutoCloseable {
  final OpenTelemetrySdk telemetry;
  private final Span root;
  private final Scope scope;

  Traces() {
    telemetry =
        System.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == null
            ? OpenTelemetrySdk.builder().build()
            : AutoConfiguredOpenTelemetrySdk.builder()
                .disableShutdownHook()
                // The variables OTEL_… have the last word.
                .addPropertiesSupplier(
                    () ->
                        Map.of(
                            "otel.service.name", "bridle-example-java",
                            "otel.exporter.otlp.protocol", "http/protobuf",
                            "otel.metrics.exporter", "none",
                            "otel.logs.exporter", "none"))
                .build()
                .getOpenTelemetrySdk();
    root = telemetry.getTracer("dev.bridle.example").spanBuilder("example").startSpan();
    scope = root.makeCurrent();
  }

  /** Ends the program's span, and sends what is not yet with the collector. */
  @Override
  public void close() {
    scope.close();
    root.end();
    telemetry.close();
  }
}
