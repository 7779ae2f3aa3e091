package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/storage/local"
)

// TestSparkAndWeExcludeEachOther races raw commits of Spark's log store with ours on a local disk: of two writers of a
// version exactly one is told that it made it, and the version holds what that one wrote.
func TestSparkAndWeExcludeEachOther(t *testing.T) {
	s := spark(t)
	const versions = 300
	table := t.TempDir()
	if err := os.Mkdir(filepath.Join(table, "_delta_log"), 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := local.New(table)
	if err != nil {
		t.Fatal(err)
	}
	ours := make(chan map[int64]bool)
	go func() {
		won, delay := map[int64]bool{}, time.Duration(0)
		defer func() { ours <- won }()
		for v := range int64(versions) {
			if v > 0 && !awaitFile(commitFile(table, v-1), time.Minute) {
				t.Errorf("version %d did not come", v-1)
				return
			}
			for begun := time.Now(); time.Since(begun) < delay; { // so that each wins half: then the attempts overlap
			}
			err := store.PutIfAbsent(t.Context(), fmt.Sprintf("_delta_log/%020d.json", v), []byte(`{"commitInfo":{"engineInfo":"ours"}}`+"\n"))
			delay = max(0, delay-100*time.Microsecond)
			if err == nil {
				won[v] = true
				delay += 200 * time.Microsecond
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
				return
			}
		}
	}()
	var theirs []int64
	if err := json.Unmarshal(s.must(t, "race", map[string]any{"table": table, "versions": versions}), &theirs); err != nil {
		t.Fatal(err)
	}
	won := <-ours
	both := 0
	for _, v := range theirs {
		if won[v] {
			both++
		}
	}
	wrong := 0
	for v := range int64(versions) {
		text, err := os.ReadFile(commitFile(table, v))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "ours") != won[v] {
			wrong++
		}
	}
	t.Logf("of %d versions Spark made %d, we made %d, both %d; lost: %d", versions, len(theirs), len(won), both, wrong)
	if both+wrong > 0 {
		t.Errorf("%d versions were made twice, %d do not hold what their writer wrote", both, wrong)
	}
}

func commitFile(table string, version int64) string {
	return filepath.Join(table, "_delta_log", fmt.Sprintf("%020d.json", version))
}

func awaitFile(name string, limit time.Duration) bool {
	for begun := time.Now(); time.Since(begun) < limit; {
		if _, err := os.Stat(name); err == nil {
			return true
		}
	}
	return false
}
