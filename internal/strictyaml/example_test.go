package strictyaml_test

import (
	"fmt"
	"time"

	"kafkadelta/internal/strictyaml"
)

func ExampleLoad() {
	var config struct {
		Name  string `yaml:"name"`
		Flush struct {
			Interval time.Duration    `yaml:"interval"`
			Bytes    strictyaml.Bytes `yaml:"bytes"`
		} `yaml:"flush"`
	}
	config.Flush.Bytes = 128 << 20 // the default

	err := strictyaml.Load([]byte("name: web\nflush:\n  intervall: 10s\n  bytes: lots\n"), "connector.yaml", nil, &config)
	fmt.Println(err)
	// Output:
	// unknown key "flush.intervall" at connector.yaml:3:3; did you mean "interval"?
	// wrong value "lots" for flush.bytes at connector.yaml:4:10; expected a size such as 128MiB, 64KB or a whole number of bytes
}
