package main

import (
	"context"
	"errors"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// traced runs the program as one span, the root of all that it makes Bridle do, where
// OTEL_EXPORTER_OTLP_ENDPOINT names a collector; else it just runs it.
func traced(ctx context.Context, run func(context.Context) error) (err error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return run(ctx)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "bridle-example-go")),
		resource.WithFromEnv()) // OTEL_SERVICE_NAME, if set, has the last word.
	if err != nil {
		return err
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	defer func() {
		// What is not yet with the collector goes there now, also where the program ran out of time.
		last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, provider.Shutdown(last))
	}()
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})

	ctx, span := otel.Tracer("bridle.dev/go/example").Start(ctx, "example")
	defer span.End()
	if err = run(ctx); err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
