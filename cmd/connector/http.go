package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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

// hub has what the pipelines of the process tell about themselves.
type hub struct {
	mu       sync.Mutex
	streams  map[string]*told // by name
	registry *prometheus.Registry
	up       *prometheus.GaugeVec
	restarts *prometheus.CounterVec
}

// told is what one pipeline tells.
type told struct {
	ready   func() error
	metrics prometheus.Gatherers
}

func newHub() *hub {
	h := &hub{
		streams: map[string]*told{}, registry: prometheus.NewRegistry(),
		up:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kafkadelta_up", Help: "1 while the pipeline runs, 0 after an error that ended it."}, []string{"stream"}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kafkadelta_restarts_total", Help: "Pipelines that were started again after an error that had ended them."}, []string{"stream"}),
	}
	h.registry.MustRegister(h.up, h.restarts, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return h
}

// runs notes that a pipeline runs.
func (h *hub) runs(name string, ready func() error, metrics ...prometheus.Gatherer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams[name] = &told{ready, metrics}
	h.up.WithLabelValues(name).Set(1)
}

// failed notes that a pipeline has ended. Its metrics stay as they were.
func (h *hub) failed(name string, err error) {
	h.note(name, err)
	h.up.WithLabelValues(name).Set(0)
}

// note has a pipeline that does not run, or a search for topics, be ready but for err.
func (h *hub) note(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &told{ready: func() error { return err }}
	if before := h.streams[name]; before != nil {
		t.metrics = before.metrics
	}
	h.streams[name] = t
}

// forget takes a pipeline away.
func (h *hub) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, name)
	h.up.DeleteLabelValues(name)
	h.restarts.DeleteLabelValues(name)
}

// readiness tells what one pipeline lacks.
func (h *hub) readiness(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.streams[name]; t != nil {
		return t.ready()
	}
	return errors.New("it does not run")
}

// ready names the pipelines that are not.
func (h *hub) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) == 0 {
		return errors.New("starting")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(h.streams)) {
		if err := h.streams[name].ready(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// metrics are those of all pipelines and of the process.
func (h *hub) metrics() prometheus.Gatherers {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := prometheus.Gatherers{h.registry}
	for _, t := range h.streams {
		all = append(all, t.metrics...)
	}
	return all
}

// serveHTTP serves until the returned function is called.
func serveHTTP(c httpConfig, h *hub, log *slog.Logger) (func(), error) {
	if c.Listen == httpOff {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", c.Listen) //nolint:noctx // answers at once, there is nothing to cancel
	if err != nil {
		return nil, &configError{fmt.Errorf("serving metrics: %w; set http.listen to a free address, or to off", err)}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		promhttp.HandlerFor(h.metrics(), promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.ready(); err != nil {
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
