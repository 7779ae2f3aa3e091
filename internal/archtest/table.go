// Package archtest holds the house rules that a program can check: which package may import what, and a few of style.
//
// It owns the import table. It promises that its tests fail, with the file, the line and the reason, when the code
// departs from the table, and when a package is missing in it. It reads the module's sources, for every operating
// system and build tag, and never imports a package of the module. What a linter checks as well is left to the linter.
package archtest

// rule is one row of the import table: what the non-test files of one package may import beyond the standard library.
// Whatever a row does not list is forbidden.
type rule struct {
	pkg      string   // folder, relative to the module's root
	imports  []string // packages of this module, by folder
	modules  []string // third-party modules or packages, each with all packages below it
	pure     bool     // true: not even the parts of the standard library that do I/O (ioPackages)
	testOnly bool     // true: no package but another testOnly one may import it
	because  string
}

// Third-party code, by role.
const (
	autoMemLimit = "github.com/KimMachineGun/automemlimit"
	azblob       = "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	arrow        = "github.com/apache/arrow-go/v18"
	awsSDK       = "github.com/aws/aws-sdk-go-v2"
	smithy       = "github.com/aws/smithy-go"
	azcore       = "github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azidentity   = "github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	cobra        = "github.com/spf13/cobra"
	compress     = "github.com/klauspost/compress"
	containers   = "github.com/testcontainers/testcontainers-go"
	yaml         = "go.yaml.in/yaml/v3"
	goavro       = "github.com/linkedin/goavro/v2"
	gokrb5       = "github.com/jcmturner/gokrb5/v8"
	goleak       = "go.uber.org/goleak"
	googleAuth   = "cloud.google.com/go/auth"
	googleMeta   = "cloud.google.com/go/compute/metadata"
	jsonSchema   = "github.com/santhosh-tekuri/jsonschema/v6"
	kadm         = "github.com/twmb/franz-go/pkg/kadm"
	kerr         = "github.com/twmb/franz-go/pkg/kerr"
	kfake        = "github.com/twmb/franz-go/pkg/kfake"
	kgo          = "github.com/twmb/franz-go/pkg/kgo"
	kmsg         = "github.com/twmb/franz-go/pkg/kmsg"
	kversion     = "github.com/twmb/franz-go/pkg/kversion"
	oauth2       = "golang.org/x/oauth2"
	prometheus   = "github.com/prometheus/client_golang"
	protocompile = "github.com/bufbuild/protocompile"
	protobufGo   = "google.golang.org/protobuf"
	srClient     = "github.com/twmb/franz-go/pkg/sr"
	sasl         = "github.com/twmb/franz-go/pkg/sasl"
	xsync        = "golang.org/x/sync"
	xsys         = "golang.org/x/sys"
	uuid         = "github.com/google/uuid"
)

// ioPackages are what a pure package does not import: it reaches the world through what it is handed.
var ioPackages = []string{"net", "net/http", "os", "os/exec", "path/filepath", "syscall"}

// table is the import table, in the order of a message's path, then storage, the command, and what only tests use.
// docs/adr/0003-import-rules.md says why it exists and how to change it.
var table = []rule{
	{
		pkg: "source", imports: []string{"checkpoint", "source/auth"},
		modules: []string{kadm, kerr, kgo, kmsg, kversion, xsync},
		because: "it speaks Kafka and knows neither rows nor tables, so that every format and table gets the same delivery",
	},
	{
		pkg: "source/auth", modules: []string{awsSDK, azcore, azidentity, gokrb5, kerr, kgo, oauth2, sasl},
		because: "how brokers are convinced of who we are: the clouds' SDKs and Kerberos are here, and nothing of topics and groups",
	},
	{
		pkg: "registry", modules: []string{srClient},
		because: "it asks a schema registry and knows no format: each parses its own schemas",
	},
	{
		pkg: "decode", modules: []string{arrow, kgo}, pure: true,
		because: "bytes in, rows out: a plan can be tested and fuzzed without a broker or a table",
	},
	{
		pkg: "decode/json", imports: []string{"decode"}, modules: []string{arrow, kgo}, pure: true,
		because: "a format adds parsing to the shared plan, nothing else; formats don't know each other",
	},
	{
		pkg: "decode/avro", imports: []string{"decode"}, modules: []string{arrow, goavro, kgo}, pure: true,
		because: "a format adds parsing to the shared plan, nothing else; the schema of an id comes from a function",
	},
	{
		pkg: "decode/protobuf", imports: []string{"decode"}, modules: []string{arrow, kgo, protocompile, protobufGo}, pure: true,
		because: "a format adds parsing to the shared plan, nothing else; the schema of an id comes from a function",
	},
	{
		pkg: "decode/jsonschema", imports: []string{"decode"}, modules: []string{arrow, jsonSchema}, pure: true,
		because: "columns out of a schema's text; no message goes through it",
	},
	{
		pkg: "decode/raw", imports: []string{"decode"}, modules: []string{arrow, kgo}, pure: true,
		because: "a format that looks into nothing",
	},
	{
		pkg: "decode/envelope", imports: []string{"decode"}, modules: []string{arrow, kgo, compress}, pure: true,
		because: "what is around a message of any format; the formats' decoders are handed in",
	},
	{
		pkg: "columns", imports: []string{"decode", "delta/expr", "delta/variant"}, modules: []string{arrow}, pure: true,
		because: "batches in, batches out: what is computed is the same for every format, and can be tested without a message",
	},
	{
		pkg: "batch", imports: []string{"checkpoint"}, modules: []string{arrow}, pure: true,
		because: "it ties rows to the offsets they came from, whatever made the rows and wherever they go",
	},
	{
		pkg: "sink", imports: []string{"checkpoint", "delta", "sink/datafile", "internal/backoff"},
		modules: []string{arrow, uuid, xsync}, pure: true,
		because: "it commits batches to one table and knows neither Kafka nor an object store",
	},
	{
		pkg: "sink/datafile", modules: []string{arrow, compress, uuid}, pure: true,
		because: "it writes one Parquet object to the Creator it is handed; the Delta log and the store are its caller's",
	},
	{
		pkg: "delta", imports: []string{"delta/expr", "delta/variant"}, modules: []string{arrow, compress, uuid}, pure: true,
		because: "the protocol stands on its own LogStore, so that it is usable and testable without the rest",
	},
	{
		pkg: "delta/variant", modules: []string{arrow}, pure: true,
		because: "one type and its encoding, by arrow-go, below the columns that make it and the table that has it",
	},
	{
		pkg: "delta/expr", modules: []string{arrow}, pure: true,
		because: "expressions over Arrow batches: comparable with Spark value by value, without a table",
	},
	{
		pkg: "checkpoint", pure: true,
		because: "values and rules that every later version must be able to read: no I/O, no library that could change them",
	},
	{
		pkg: "pipeline", imports: []string{"batch", "checkpoint", "columns", "sink", "source", "internal/backoff"},
		modules: []string{arrow, kgo, prometheus, xsync},
		because: "it calls the stages in order; decoders and tables are handed in, so a format or backend never changes it",
	},

	{
		pkg: "admin", imports: []string{"checkpoint", "delta", "internal/backoff"}, modules: []string{arrow, uuid}, pure: true,
		because: "it checks what sink and pipeline have written, and so shares nothing with them but the meaning of what is written",
	},
	{
		pkg: "replay", imports: []string{"admin", "checkpoint", "columns", "decode", "pipeline", "sink", "internal/backoff"}, modules: []string{arrow, kgo}, pure: true,
		because: "dead letters through the stages once more, for the command and for the simulation; what it reads and decodes with is handed in",
	},

	{
		pkg: "storage", because: "the contract of all backends: standard library only, so that delta can repeat its types",
	},
	{
		pkg: "storage/local", imports: []string{"storage"}, modules: []string{xsys},
		because: "backends don't know each other; the system calls are for durable renames and folders",
	},
	{
		pkg: "storage/memory", imports: []string{"storage"},
		because: "backends don't know each other",
	},
	{
		pkg: "storage/s3", imports: []string{"storage", "storage/remote"}, modules: []string{awsSDK, smithy, uuid},
		because: "backends don't know each other; Amazon's SDK for stores ends here",
	},
	{
		pkg:     "storage/remote",
		because: "what the clouds' backends share below their SDKs: connections, counting, trying again; it knows none of them",
	},
	{
		pkg: "storage/azure", imports: []string{"storage", "storage/remote"}, modules: []string{azblob, azcore, azidentity},
		because: "backends don't know each other; the SDK of one cloud stays in one folder",
	},
	{
		pkg: "storage/gcs", imports: []string{"storage", "storage/remote"}, modules: []string{googleAuth, googleMeta},
		because: "backends don't know each other; the SDK of one cloud stays in one folder",
	},
	{
		pkg: "storage/open",
		imports: []string{
			"storage", "storage/azure", "storage/gcs", "storage/local", "storage/memory", "storage/remote", "storage/s3",
		},
		because: "the only package that knows every backend, so that only the command carries their weight",
	},

	{
		pkg: "cmd/connector",
		imports: []string{
			"admin", "batch", "checkpoint", "columns", "decode", "decode/avro", "decode/envelope", "decode/json", "decode/jsonschema", "decode/protobuf", "decode/raw", "delta", "delta/variant", "pipeline", "registry", "replay", "sink", "sink/datafile", "source",
			"storage", "storage/local", "storage/memory", "storage/open", "internal/backoff", "internal/strictyaml",
		},
		modules: []string{arrow, autoMemLimit, cobra, compress, kadm, kerr, kfake, kgo, kmsg, prometheus, xsync, xsys},
		because: "the wiring: it may know everything that users run, and nobody imports it",
	},

	{
		pkg: "internal/backoff", pure: true,
		because: "one home for the wait between tries, below sink and pipeline, which both need it",
	},
	{
		pkg: "internal/strictyaml", modules: []string{yaml},
		because: "reads configuration for the command; a Config takes part by struct tags, without importing it",
	},

	{
		pkg: "internal/archtest", testOnly: true,
		because: "it reads the sources of the others and imports none",
	},
	{
		pkg: "internal/decodetest", imports: []string{"decode"}, testOnly: true,
		because: "what tests of several decoders ask alike",
	},
	{
		pkg: "internal/kafkatest", testOnly: true,
		modules: []string{containers, goleak, kadm, kerr, kfake, kgo, kmsg, xsync},
		because: "brokers for tests",
	},
	{
		pkg: "internal/savetest", testOnly: true,
		because: "what saved results say of themselves, in one place",
	},
	{
		pkg: "internal/storetest", testOnly: true, modules: []string{awsSDK, containers},
		because: "servers for tests of stores",
	},
	{
		pkg: "storage/faultstore", imports: []string{"storage"}, testOnly: true,
		because: "a store that fails on purpose has no place in production",
	},
	{
		pkg: "storage/storagetest", imports: []string{"storage"}, testOnly: true,
		because: "the conformance suite knows the contract, not the backends",
	},
	{
		pkg: "bench",
		imports: []string{
			"batch", "checkpoint", "decode", "decode/avro", "decode/json", "delta", "pipeline", "sink", "sink/datafile", "source", "storage",
			"storage/local", "storage/memory", "storage/open", "internal/kafkatest",
		},
		modules: []string{arrow, compress, kadm, kfake, kgo, "github.com/google/pprof"}, testOnly: true,
		because: "measures what it wants, and is measured by nobody",
	},
	{
		pkg: "test/model", testOnly: true,
		because: "the protocol written a second time: what it shared with the code, it could not contradict",
	},
	{
		pkg: "test/soak", imports: []string{"storage/local", "internal/kafkatest"}, modules: []string{kgo}, testOnly: true,
		because: "it watches a connector from outside for long, beside the other tests",
	},
	{
		pkg: "test/sim", testOnly: true,
		because: "all of it is in test files",
	},
	{
		pkg: "test/e2e",
		imports: []string{
			"batch", "checkpoint", "decode", "decode/json", "delta", "pipeline", "sink", "sink/datafile", "source", "source/auth", "storage",
			"storage/faultstore", "storage/local", "storage/memory", "storage/open", "internal/kafkatest",
		},
		modules: []string{arrow, compress, containers, goleak, kadm, kfake, kgo}, testOnly: true,
		because: "tests the whole",
	},
}

// namesOnly narrows the use of a module to some of its names: decode takes Kafka's record as it is, and must not grow a
// client of its own.
var namesOnly = []struct {
	pkg, module string // pkg with everything below it
	names       []string
}{
	{"decode", kgo, []string{"Record", "RecordHeader"}},
}
