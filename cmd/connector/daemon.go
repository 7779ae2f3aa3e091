package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"kafkadelta/internal/backoff"
	"kafkadelta/internal/strictyaml"
	"kafkadelta/source"
)

// daemonConfig is what a configuration file, or a folder of them, describes: one or many pipelines in one process.
type daemonConfig struct {
	http      httpConfig
	pipelines []config
}

// configFile is a file with one pipeline, or with many: what stands beside them is their default.
type configFile struct {
	Config    config   `yaml:",inline"`
	Pipelines []config `yaml:"pipelines"`
}

// loadDaemon reads and validates a configuration file, or all *.yaml and *.yml files of a folder; "-" is standard input.
func loadDaemon(path string) (*daemonConfig, error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if files, err = filesOf(path); err != nil {
			return nil, &configError{err}
		}
	}
	d := &daemonConfig{}
	for i, file := range files {
		f, err := loadFile(file)
		if err != nil {
			return nil, err
		}
		if i > 0 && f.Config.HTTP != d.http {
			return nil, &configError{fmt.Errorf("%s: http.listen is %q, but %q in %s: a process serves one address", file, f.Config.HTTP.Listen, d.http.Listen, files[0])}
		}
		d.http = f.Config.HTTP
		d.pipelines = append(d.pipelines, f.Pipelines...)
	}
	names := map[string]bool{}
	for _, c := range d.pipelines {
		if names[c.Name] {
			return nil, &configError{fmt.Errorf("%s: two pipelines have the name %q: the offsets in a table go by it, so give each its own", path, c.Name)}
		}
		names[c.Name] = true
	}
	return d, nil
}

func filesOf(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("reading the configuration: the folder %s has no file *.yaml", folder)
	}
	return files, nil
}

// loadFile reads one file. Its pipelines are what Pipelines has then, be it one.
func loadFile(path string) (*configFile, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, &configError{fmt.Errorf("reading the configuration: %w", err)}
	}
	f := &configFile{Config: defaultConfig()}
	if err := strictyaml.Load(data, path, os.LookupEnv, f); err != nil {
		return nil, &configError{err}
	}
	if f.Pipelines == nil {
		f.Pipelines = []config{f.Config}
	} else {
		defaults := f.Config // read once more, on top of what stands beside them
		f = &configFile{Config: defaultConfig(), Pipelines: []config{defaults}}
		if err := strictyaml.Load(data, path, os.LookupEnv, f); err != nil {
			return nil, &configError{err}
		}
		if len(f.Pipelines) == 0 {
			return nil, &configError{fmt.Errorf("%s: pipelines is empty", path)}
		}
	}
	for i, c := range f.Pipelines {
		where := path
		if len(f.Pipelines) > 1 || c.Name != f.Config.Name {
			where = fmt.Sprintf("%s: pipelines[%d] (%s)", path, i, c.Name)
		}
		validate := c.validate
		if c.manyTopics() {
			validate = c.validateTopics
		}
		if err := validate(); err != nil {
			return nil, &configError{fmt.Errorf("%s: %w", where, err)}
		}
		if c.HTTP != f.Config.HTTP {
			return nil, &configError{fmt.Errorf("%s: http stands beside the pipelines, since the process serves one address", where)}
		}
	}
	return f, nil
}

// loadConfig reads the one pipeline that a command is about. Of several in a file or folder, FILE#NAME names it.
func loadConfig(path string) (config, error) {
	file, name := path, ""
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if i := strings.LastIndexByte(path, '#'); i > 0 {
			file, name = path[:i], path[i+1:]
		}
	}
	d, err := loadDaemon(file)
	if err != nil {
		return config{}, err
	}
	var known []string
	for _, c := range d.pipelines {
		all := []config{c}
		if c.manyTopics() {
			all = c.forTopics()
			if topic, ok := strings.CutPrefix(name, c.Name+"."); ok && c.Source.TopicPattern != "" {
				if re, err := c.pattern(); err == nil && re.MatchString(topic) {
					all = append(all, c.forTopic(topic))
				}
			}
		}
		for _, p := range all {
			if p.Name == name || name == "" && len(d.pipelines) == 1 && !c.manyTopics() {
				return p, nil
			}
			known = append(known, p.Name)
		}
		if c.Source.TopicPattern != "" {
			known = append(known, c.Name+".<topic>")
		}
	}
	return config{}, &configError{fmt.Errorf("%s has the pipelines %s: name one as %s#NAME", file, strings.Join(known, ", "), file)}
}

// discoverEvery is how often topics are looked for that a pattern finds.
const discoverEvery = time.Minute

// restartWait bounds the wait before a pipeline is started again that an error has ended.
const restartWait = 5 * time.Minute

// run runs all pipelines until ctx is done, or to their end. One that fails does not touch the others: it is started again after a while. A
// pipeline alone ends with its error.
func (d *daemonConfig) run(ctx context.Context, log *slog.Logger, o runOptions) error {
	o.hub = newHub()
	stop, err := serveHTTP(d.http, o.hub, log)
	if err != nil {
		return err
	}
	defer stop()
	if len(d.pipelines) == 1 && !d.pipelines[0].manyTopics() {
		return runStream(ctx, d.pipelines[0], log, o)
	}
	s := &supervisor{log: log, options: o, running: map[string]bool{}}
	for _, c := range d.pipelines {
		s.options.share += max(len(c.Source.Topics), 1)
	}
	for _, c := range d.pipelines {
		switch {
		case c.Source.TopicPattern != "":
			s.wait.Go(func() { s.discover(ctx, c) })
		case c.manyTopics():
			for _, t := range c.forTopics() {
				s.start(ctx, t)
			}
		default:
			s.start(ctx, c)
		}
	}
	s.wait.Wait()
	return errors.Join(s.errs...)
}

// supervisor runs pipelines side by side.
type supervisor struct {
	log     *slog.Logger
	options runOptions
	wait    sync.WaitGroup

	mu      sync.Mutex
	running map[string]bool
	errs    []error
}

// start runs a pipeline in a goroutine of its own.
func (s *supervisor) start(ctx context.Context, c config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[c.Name] {
		return
	}
	s.running[c.Name] = true
	o := s.options
	o.share = max(o.share, len(s.running))
	s.wait.Go(func() { s.keep(ctx, c, o) })
}

// keep has a pipeline run, again after an error.
func (s *supervisor) keep(ctx context.Context, c config, o runOptions) {
	log := s.log.With("stream", c.Name)
	wait := backoff.Backoff{Longest: restartWait}
	for {
		begun := time.Now()
		err := runStream(ctx, c, log, o)
		if err == nil && ctx.Err() == nil && !o.untilEnd {
			err = errors.New("it has ended")
		}
		if err == nil || ctx.Err() != nil || o.untilEnd {
			s.ended(c.Name, err)
			return
		}
		if time.Since(begun) > restartWait {
			wait = backoff.Backoff{Longest: restartWait}
		}
		again := max(wait.Next(), time.Second)
		o.hub.failed(c.Name, err)
		log.Error("the pipeline has ended; the others go on, and it is started again", "error", err, "exit_code", exitCode(err), "again_in", again.Round(time.Second))
		if backoff.Sleep(ctx, again) != nil {
			s.ended(c.Name, err)
			return
		}
		o.hub.restarts.WithLabelValues(c.Name).Inc()
	}
}

func (s *supervisor) ended(name string, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
}

// discover starts a pipeline for each topic that the pattern finds, now and later.
func (s *supervisor) discover(ctx context.Context, c config) {
	log := s.log.With("stream", c.Name)
	wait := backoff.Backoff{Longest: discoverEvery}
	for {
		next := discoverEvery
		topics, err := s.find(ctx, c)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && s.options.untilEnd && errors.As(err, new(*source.Error)):
			s.ended(c.Name, err)
			return
		case err != nil:
			next = wait.Next()
			log.Warn("topics can't be looked for; trying again", "error", err, "again_in", next.Round(time.Millisecond))
		default:
			for _, t := range topics {
				s.start(ctx, c.forTopic(t))
			}
			if len(topics) == 0 {
				log.Warn("no topic matches source.topic_pattern yet", "pattern", c.Source.TopicPattern)
			}
			if s.options.untilEnd {
				return
			}
		}
		if backoff.Sleep(ctx, next) != nil {
			return
		}
	}
}

// find lists the topics that the pattern matches.
func (s *supervisor) find(ctx context.Context, c config) ([]string, error) {
	re, err := c.pattern()
	if err != nil {
		return nil, err
	}
	kafka := c.Source.Kafka
	kafka.Topic = cmp.Or(kafka.Topic, patternTopic)
	i, err := source.NewInspector(kafka, s.options.client...)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	topics, err := i.Topics(ctx)
	return slices.DeleteFunc(topics, func(t string) bool { return !re.MatchString(t) }), err
}
