package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kafkadelta/pipeline"
)

// httpOff is the value of http.listen that serves nothing.
const httpOff = "off"

// httpConfig says where /metrics, /healthz and /readyz are served.
type httpConfig struct {
	// Listen is host:port, by default :9464; off serves nothing.
	Listen string `yaml:"listen"`
}

// Validate checks the address.
func (c httpConfig) Validate() error {
	if c.Listen == httpOff {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("http.listen is %q: use host:port, :port, or off", c.Listen)
	}
	return nil
}

// serveHTTP serves until the returned function is called.
func serveHTTP(c httpConfig, m *pipeline.Metrics, more prometheus.Gatherers, log *slog.Logger) (func(), error) {
	if c.Listen == httpOff {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", c.Listen) //nolint:noctx // answers at once, there is nothing to cancel
	if err != nil {
		return nil, &configError{fmt.Errorf("serving metrics: %w; set http.listen to a free address, or to off", err)}
	}
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(append(more, m.Gatherer(), process), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := m.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("serving metrics", "error", err)
		}
	}()
	log.Info("serving /metrics, /healthz and /readyz", "address", listener.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		<-done
	}, nil
}
