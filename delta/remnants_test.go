package delta_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"kafkadelta/delta"
	"kafkadelta/storage/memory"
)

// A folder with something of a log, but no version, is no place for a new table.
func TestRemnantsOfALogAreNoFolderWithoutTable(t *testing.T) {
	for name, content := range map[string]string{
		"_delta_log/_last_checkpoint":                                              `{"version":57,"size":3}`,
		"_delta_log/00000000000000000058.crc":                                      `{}`,
		"_delta_log/00000000000000000000.00000000000000000009.compacted.json":      "",
		"_delta_log/00000000000000000002.checkpoint.0000000001.0000000003.parquet": "x",
	} {
		s := memory.New()
		check(t, s.Put(ctx, name, []byte(content)))
		_, err := delta.Open(ctx, s, newClock().options())
		create := delta.Create(ctx, s, delta.CreateOptions{Schema: must(delta.ParseDDL("a INT")), Now: newClock().now})
		_, snapshot := delta.OpenSnapshot(ctx, s, 3)
		_, at := delta.VersionAt(ctx, s, newClock().now())
		var history error
		for _, err := range delta.History(ctx, s) {
			history = err
		}
		for what, err := range map[string]error{"opening": err, "creating": create, "a version": snapshot, "a time": at, "the history": history} {
			if !errors.Is(err, delta.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v, want that it is corrupt, by the name", what, name, err)
			}
		}
	}
	s := memory.New()
	check(t, s.Put(ctx, "_delta_log/_last_checkpoint", []byte("torn")))
	if _, err := delta.Open(ctx, s, newClock().options()); !errors.Is(err, delta.ErrNotTable) {
		t.Errorf("%v, want no table: the hint says nothing", err)
	}
}

func TestVersionsThatCannotBeAreNone(t *testing.T) {
	s := created(t, newClock(), "a INT")
	checkpointAt(t, s, 0, 0)
	file := read(t, s, "_delta_log/00000000000000000000.checkpoint.parquet")
	for _, version := range []string{"09223372036854775807", "09223372036854775806", "04611686018427387904"} {
		check(t, s.Put(ctx, "_delta_log/"+version+".checkpoint.parquet", file))
		if v := open(t, s, newClock()).Version(); v != 0 {
			t.Errorf("version %d, want 0", v)
		}
	}
	check(t, s.Put(ctx, "_delta_log/04611686018427387903.checkpoint.parquet", file))
	table := open(t, s, newClock())
	outcome, err := table.Commit(ctx, &delta.Transaction{Operation: "WRITE"})
	if outcome != delta.Refused || !errors.Is(err, delta.ErrCorrupt) {
		t.Errorf("a commit after the last version that can be: %v, %v", outcome, err)
	}
}

func TestEmptyAppID(t *testing.T) {
	s := created(t, newClock(), "a INT")
	putLog(t, s, 1, `{"txn":{"appId":"","version":1}}`, `{"domainMetadata":{"domain":"","configuration":"{}","removed":false}}`, `{"sidecar":{}}`)
	if txn, ok := open(t, s, newClock()).Txn(""); !ok || txn.Version != 1 {
		t.Errorf("%+v %v", txn, ok)
	}
}

// Counts of a first version that has files, and of what the properties of statistics leave open.
func TestFirstVersionWithFiles(t *testing.T) {
	s := created(t, newClock(), "a INT")
	create := string(read(t, s, delta.CommitName(0)))
	s = memory.New()
	putLog(t, s, 0, strings.TrimSpace(create), addLine("first"))
	table := open(t, s, newClock())
	check(t, table.ReadChecksum(ctx))
	if sum := string(must(table.Checksum())); !strings.Contains(sum, `"numFiles":1,`) {
		t.Errorf("checksum %s, want one file", sum)
	}
}

func TestAHintThatNamesTooMuchStopsNothing(t *testing.T) {
	s := created(t, newClock(), "a INT")
	check(t, s.Put(ctx, "_delta_log/_last_checkpoint", []byte(`{"version":100000,"size":3}`)))
	if v := must(delta.LastLogCheckpoint(ctx, s)); v != -1 {
		t.Errorf("log checkpoint %d, but there is none", v)
	}
	checkpointAt(t, s, 0, 0)
	if hint := string(read(t, s, "_delta_log/_last_checkpoint")); !strings.Contains(hint, `"version":0,`) {
		t.Errorf("%s still names a version that is not there", hint)
	}
	if v := must(delta.LastLogCheckpoint(ctx, s)); v != 0 {
		t.Errorf("log checkpoint %d, want 0", v)
	}
}

func TestEmptyListOfStatisticsColumns(t *testing.T) {
	withList := func(list string) *delta.Table {
		store := memory.New()
		putLog(t, store, 0, protocol(1, 2), metadata(must(delta.SchemaToJSON(must(delta.ParseDDL("a INT, b INT")))), `{"delta.dataSkippingStatsColumns":"`+list+`"}`))
		return open(t, store, newClock())
	}
	for list, want := range map[string][]bool{"": {false, false}, "b": {false, true}} {
		table := withList(list)
		check(t, table.CheckAppend())
		if got := must(table.FileLayout()).Stats; !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", list, got, want)
		}
	}
	if err := withList("a b").CheckAppend(); err == nil || !strings.Contains(err.Error(), "dataSkippingStatsColumns") {
		t.Errorf("%v, want a refusal by the property", err)
	}
}

func TestEvolveKeepsNoFeatureThatItDoesNotKnow(t *testing.T) {
	s := memory.New()
	putLog(t, s, 0, `{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["appendOnly","someNewFeature"]}}`,
		metadata(must(delta.SchemaToJSON(must(delta.ParseDDL("a INT")))), ""))
	table := open(t, s, newClock())
	if changed, err := table.Evolve(must(delta.ParseDDL("a INT, b TIMESTAMP_NTZ")), &delta.Transaction{}); changed || !errors.Is(err, delta.ErrUnsupported) {
		t.Errorf("%v, %v: want a refusal by the feature's name", changed, err)
	}
}
