package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// variant is one build of the code.
type variant struct {
	name, commit     string
	bench, connector string // binaries
}

// job is what is run once in every round.
type job struct {
	variant variant
	stage   string
	shape   shape
}

// suite is one call of the command.
type suite struct {
	options
	root     string // of the module
	work     string // folder that is removed in the end
	variants []variant
	jobs     []job
}

func suiteCommand(ctx context.Context, args []string) (m measurement, err error) {
	o, err := parseOptions(args)
	if err != nil {
		return m, err
	}
	m.output = o.output
	m.result, err = runSuite(ctx, o)
	return m, err
}

func runSuite(ctx context.Context, o options) (r result, err error) {
	s := &suite{options: o}
	var leave func() error
	if s.root, s.work, leave, err = workplace(ctx, o.dir); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	defer func() { err = errors.Join(err, s.dropWorktree()) }()
	r = result{
		Format: resultFormat, At: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(ctx, s.root),
		Settings: settings{Messages: o.messages, Rounds: o.rounds, Partitions: o.partitions, Compression: o.compression, Broker: "embedded", Config: o.connectorYAML},
	}
	if err := s.build(ctx, r.Machine.Commit); err != nil {
		return r, err
	}
	if len(s.variants) > 1 {
		r.Settings.Against = s.variants[1].commit
	}
	s.list()
	if len(o.brokers) > 0 {
		r.Settings.Broker = "real"
	} else if slices.Contains(o.stages, stagePath) {
		brokers, stop, err := startBroker(ctx, s.variants[0].bench)
		if err != nil {
			return r, err
		}
		defer func() { _ = stop() }() // it has nothing to lose
		s.brokers = brokers
	}
	return r, s.run(ctx, &r)
}

func (s *suite) run(ctx context.Context, r *result) error {
	if slices.Contains(s.stages, stagePath) {
		for _, name := range s.shapes {
			sh, err := shapeOf(name)
			if err != nil {
				return err
			}
			if sh.decoder != nil {
				continue
			}
			progress("filling topic %s", s.topicName(sh))
			if err := s.fillTopic(ctx, s.brokers, sh); err != nil {
				return err
			}
		}
	}
	sizes := map[string]int64{} // input bytes, by shape
	for round := range s.rounds {
		// Each round begins elsewhere, so that none always runs after the same other.
		for i := range s.jobs {
			j := s.jobs[(i+round)%len(s.jobs)]
			x, err := s.once(ctx, j, round, sizes)
			if err != nil {
				return err
			}
			r.Runs = append(r.Runs, x)
			progress("round %d  %-8s %-13s %-8s %6.3f CPU s per million  %9.0f messages/s  %5.0f MiB", round+1, x.Stage, x.Shape, x.Variant,
				x.cpuPerMillion(), x.perSecond(), x.peakMiB())
		}
	}
	return nil
}

// once runs one job in a folder of its own.
func (s *suite) once(ctx context.Context, j job, round int, sizes map[string]int64) (x run, err error) {
	dir, err := os.MkdirTemp(s.work, "run-")
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	profile := ""
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o777); err != nil {
			return x, err
		}
		parts := slices.DeleteFunc([]string{j.stage, j.shape.name, j.variant.name, fmt.Sprint(round + 1)}, func(p string) bool { return p == "" })
		profile = filepath.Join(s.profiles, strings.Join(parts, "-")+".pprof")
	}
	if j.stage == stagePath {
		if x, err = s.runPath(ctx, j.variant.connector, j.shape, s.brokers, dir, profile); err != nil {
			return x, err
		}
		if sizes[j.shape.name] == 0 {
			if sizes[j.shape.name], err = j.shape.bytes(s.data, j.shape.messages(s.messages)); err != nil {
				return x, err
			}
		}
		x.Bytes = sizes[j.shape.name]
	} else if x, err = s.runStage(ctx, j.variant.bench, j.stage, j.shape, dir, profile); err != nil {
		return x, err
	}
	x.Variant, x.Round = j.variant.name, round+1
	return x, nil
}

// list makes the jobs. Variants are next to each other, so that the same noise meets both.
func (s *suite) list() {
	for _, stage := range s.stages {
		for _, name := range s.shapes {
			for _, v := range s.variants {
				sh, _ := shapeOf(name) // validated with the options
				if stage == stagePath && sh.decoder != nil {
					continue
				}
				s.jobs = append(s.jobs, job{v, stage, sh})
			}
		}
	}
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(root, "cmd", "connector")); err != nil {
		return "", errors.New("this is not the connector's module: run it from the repository's root")
	}
	return root, nil
}

// workplace is where a command works: the module's root, and a new folder within dir, which leave removes.
func workplace(ctx context.Context, dir string) (root, work string, leave func() error, err error) {
	if root, err = moduleRoot(ctx); err != nil {
		return "", "", nil, err
	}
	if work, err = os.MkdirTemp(dir, "kafkadelta-bench-"); err != nil {
		return "", "", nil, err
	}
	return root, work, func() error { return os.RemoveAll(work) }, nil
}

// build builds what is measured: this revision, and the one to compare with.
func (s *suite) build(ctx context.Context, commit string) error {
	v, err := buildVariant(ctx, variantNow, s.root, filepath.Join(s.work, "now"))
	if err != nil {
		return err
	}
	v.commit = commit
	s.variants = []variant{v}
	if s.against == "" {
		return nil
	}
	source := s.against
	if info, err := os.Stat(source); err != nil || !info.IsDir() {
		source = s.worktree()
		if out, err := s.git(ctx, "worktree", "add", "--detach", source, s.against); err != nil {
			return fmt.Errorf("checking out %s: %w: %s", s.against, err, out)
		}
	}
	if v, err = buildVariant(ctx, variantAgainst, source, filepath.Join(s.work, variantAgainst)); err != nil {
		return err
	}
	v.commit = commitOf(ctx, source)
	s.variants = append(s.variants, v)
	return nil
}

func (s *suite) worktree() string { return filepath.Join(s.work, "source") }

func (s *suite) git(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = s.root
	return cmd.CombinedOutput()
}

// dropWorktree lets git forget the checkout, if one was made. It does so after an interrupt, too.
func (s *suite) dropWorktree() error {
	if _, err := os.Stat(s.worktree()); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out, err := s.git(ctx, "worktree", "remove", "--force", s.worktree()); err != nil {
		return fmt.Errorf("removing the checkout: %w: %s", err, out)
	}
	return nil
}

// buildVariant builds what is measured as the image is built: static, and without symbols, which a process has fewer pages by.
func buildVariant(ctx context.Context, name, source, target string) (variant, error) {
	progress("building %s", source)
	v := variant{name: name, bench: filepath.Join(target, "bench"), connector: filepath.Join(target, "connector")}
	if runtime.GOOS == "windows" {
		v.bench, v.connector = v.bench+".exe", v.connector+".exe"
	}
	for binary, pkg := range map[string]string{v.bench: "./bench", v.connector: "./cmd/connector"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, pkg)
		cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return v, fmt.Errorf("building %s of %s: %w\n%s", pkg, source, err, out)
		}
	}
	return v, nil
}
