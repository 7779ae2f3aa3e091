package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kafkadelta/internal/strictyaml"
	"kafkadelta/storage/open"
)

// daemonConfig is what a configuration file, or a folder of them, describes: one or many pipelines in one process.
type daemonConfig struct {
	process   processConfig
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
	var errs []error
	first := "" // file that was read
	for _, file := range files {
		f, err := loadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if first == "" {
			first, d.process = file, f.Config.Process
		}
		switch own := f.Config.Process; {
		case own.HTTP != d.process.HTTP:
			errs = append(errs, fmt.Errorf("%s: http.listen is %q, but %q in %s: a process serves one address", file, own.HTTP.Listen, d.process.HTTP.Listen, first))
		case own.Memory != d.process.Memory:
			errs = append(errs, fmt.Errorf("%s: memory.limit is %d bytes, but %d in %s: it is the process's", file, own.Memory.Limit, d.process.Memory.Limit, first))
		}
		d.pipelines = append(d.pipelines, f.Pipelines...)
	}
	var all []config
	at := places{}
	for _, c := range d.pipelines {
		for _, next := range c.known() {
			for _, before := range all {
				if err := clash(before, next, at); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", path, err))
				}
			}
			all = append(all, next)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &configError{err}
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
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	f := &configFile{Config: defaultConfig()}
	if err := strictyaml.Load(data, path, os.LookupEnv, f); err != nil {
		return nil, err
	}
	many := f.Pipelines != nil
	if !many {
		f.Pipelines = []config{f.Config}
	} else {
		defaults := f.Config // read once more, on top of what stands beside them
		f = &configFile{Config: defaultConfig(), Pipelines: []config{defaults}}
		if err := strictyaml.Load(data, path, os.LookupEnv, f); err != nil {
			return nil, err
		}
		if len(f.Pipelines) == 0 {
			return nil, fmt.Errorf("%s: pipelines is empty", path)
		}
	}
	var errs []error
	for i := range f.Pipelines {
		c := &f.Pipelines[i]
		where := path
		if many {
			where = fmt.Sprintf("%s: pipelines[%d] (%s)", path, i, c.Name)
		}
		validate := c.validateTopics
		if !c.manyTopics() {
			*c = c.ofTopic(c.Source.Kafka.Topic)
			validate = c.validate
		}
		if err := validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		if c.Process != f.Config.Process {
			errs = append(errs, fmt.Errorf("%s: http and memory stand beside the pipelines, since they are the process's", where))
		}
	}
	return f, errors.Join(errs...)
}

// clash tells why two pipelines of a process can't be side by side. What it can't see, as two names of one broker, the table tells at the
// start of the second.
func clash(a, b config, at places) error {
	topic, group := a.Source.Kafka.Topic, cmp.Or(a.Source.Kafka.Group, a.Name)
	twice := false
	switch {
	case a.Name == b.Name:
		return fmt.Errorf("two pipelines have the name %q: the offsets in a table go by it, so give each its own", a.Name)
	case topic == "" || b.Source.Kafka.Topic == "" || !a.Source.Kafka.SharesBroker(b.Source.Kafka): // of a pattern, or of two clusters
	case group == cmp.Or(b.Source.Kafka.Group, b.Name):
		return fmt.Errorf("the pipelines %q and %q have the consumer group %q: give each its own, or leave source.group out", a.Name, b.Name, group)
	case topic != b.Source.Kafka.Topic || apart(a.Table.Decode.Filter, b.Table.Decode.Filter):
	case a.place(a.Table.Sink.URI) == b.place(b.Table.Sink.URI):
		return fmt.Errorf("the pipelines %q and %q both bring the topic %s into the table %s: it would have each message twice; give each another table, or a table.filter of its own",
			a.Name, b.Name, topic, open.Redact(b.Table.Sink.URI))
	default:
		twice = true
	}
	return clashOfFolders(a, b, at, twice)
}

// apart tells whether two filters may leave each message to one of the two.
func apart(a, b string) bool { return a != "" && b != "" && a != b }

// place is where a URI of the settings leads, however it is spelled.
func (c config) place(uri string) string {
	return open.Place(uri, open.Options{Config: c.Storage, Getenv: os.Getenv})
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
	if name == "" && len(d.pipelines) == 1 && !d.pipelines[0].manyTopics() {
		return d.pipelines[0], nil
	}
	var names, meant []string
	var found []config // by patterns
	for _, c := range d.pipelines {
		if c.Source.TopicPattern == "" {
			for _, p := range c.known() {
				if p.Name == name {
					return p, nil
				}
				names = append(names, p.Name)
			}
			continue
		}
		names = append(names, c.Name+".<topic>")
		if topic, ok := strings.CutPrefix(name, c.Name+"."); ok && c.matches(topic) {
			found, meant = append(found, c.forTopic(topic)), append(meant, fmt.Sprintf("the topic %q of the pipeline %q", topic, c.Name))
		}
	}
	switch len(found) {
	case 0:
		return config{}, &configError{fmt.Errorf("%s has the pipelines %s: name one as %s#NAME", file, strings.Join(names, ", "), file)}
	case 1:
		return found[0], nil
	}
	return config{}, &configError{fmt.Errorf("%s#%s may be %s: give one of these pipelines another name", file, name, strings.Join(meant, ", or "))}
}
