// Package storetest starts the servers that stand for the clouds' object stores in tests: one container of each kind in a test
// process, shared by all its tests, and a fresh container or bucket in it for each test.
//
// A package that uses it has a TestMain with os.Exit(storetest.Run(m)), or Stop where it has its own, so that the containers
// end with the process. A test that needs Docker skips with the reason where there is none, and fails instead under CI=true.
// testcontainers' own variables (TESTCONTAINERS_...) say how Docker is reached.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

var (
	mu      sync.Mutex
	servers = map[string]*server{} // by image
)

// server is a container that was started, or the reason why not.
type server struct {
	container testcontainers.Container
	endpoint  string // host:port of the one port that is exposed
	err       error
	lacking   bool // err is the machine's fault
}

// Run runs the tests of a package, then removes the containers that they started.
func Run(m *testing.M) int {
	defer Stop()
	return m.Run()
}

// Stop removes the containers of this process.
func Stop() {
	mu.Lock()
	defer mu.Unlock()
	for image, s := range servers {
		if s.container != nil {
			if err := testcontainers.TerminateContainer(s.container, testcontainers.StopTimeout(0)); err != nil {
				fmt.Fprintf(os.Stderr, "removing the container of %s: %v\n", image, err)
			}
		}
	}
	clear(servers)
}

// start runs the image the first time and returns host:port of its port.
func start(t testing.TB, image string, options ...testcontainers.ContainerCustomizer) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	s := servers[image]
	if s == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute) // for all tests; an image may have to be pulled
		defer cancel()
		s = run(ctx, image, options...)
		servers[image] = s
	}
	switch {
	case s.lacking && os.Getenv("CI") != "true":
		t.Skipf("this test needs Docker and the image %s: %v", image, s.err)
	case s.err != nil:
		t.Fatalf("starting %s: %v", image, s.err)
	}
	return s.endpoint
}

func run(ctx context.Context, image string, options ...testcontainers.ContainerCustomizer) (s *server) {
	s = &server{}
	defer func() { // testcontainers panics where it finds no Docker host at all
		if r := recover(); r != nil {
			s.lacking, s.err = true, fmt.Errorf("no Docker host was found: %v", r)
		}
	}()
	provider, err := testcontainers.ProviderDocker.GetProvider()
	if err == nil {
		defer func() { _ = provider.Close() }()
		err = provider.Health(ctx)
	}
	if err != nil {
		return &server{lacking: true, err: err}
	}
	container, err := testcontainers.Run(ctx, image, options...)
	switch {
	case err != nil && container == nil: // nothing could be created: most likely there is no image and no network
		return &server{lacking: true, err: err}
	case err != nil:
		return &server{err: errors.Join(err, testcontainers.TerminateContainer(container, testcontainers.StopTimeout(0)))}
	}
	s.container = container
	s.endpoint, s.err = container.Endpoint(ctx, "")
	return s
}
