package local_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kafkadelta/storage/local"
)

// The test binary runs itself again as another process, with its part in this variable.
const roleEnv = "LOCAL_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const raceNames = 60

func raceName(i int) string { return fmt.Sprintf("folder%d/%020d.json", i%4, i) }

// play is the other process. It says "ready" and starts when its input ends, so that all start together.
func play(role, root, id string) error {
	s, err := local.New(root)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	switch role {
	case "race":
		for i := range raceNames {
			err := s.PutIfAbsent(context.Background(), raceName(i), []byte(strings.Repeat(id, 1000)))
			switch {
			case err == nil:
				fmt.Println(raceName(i))
			case !errors.Is(err, fs.ErrExist):
				return err
			}
		}
		return nil
	case "crash":
		for i := 0; ; i++ {
			if err := s.PutIfAbsent(context.Background(), fmt.Sprintf("crash/%s-%d", id, i), crashContent(i)); err != nil {
				return err
			}
		}
	}
	return errors.New("unknown role " + role)
}

// crashContent is large, so that a kill is likely in the middle, and proves itself whole.
func crashContent(i int) []byte {
	body := strings.Repeat(fmt.Sprint(i), 200_000)
	sum := sha256.Sum256([]byte(body))
	return append(sum[:], body...)
}

type process struct {
	cmd   *exec.Cmd
	start io.Closer
	out   *bufio.Scanner
	errs  strings.Builder
}

func startProcess(t *testing.T, role, root, id string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(t.Context(), exe, root, id)}
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	p.cmd.Stderr = &p.errs
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start, p.out = stdin, bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !p.out.Scan() || p.out.Text() != "ready" {
		t.Fatalf("process %s did not get ready: %s", id, p.errs.String())
	}
	return p
}

func TestRaceBetweenProcesses(t *testing.T) {
	root := filepath.Join(t.TempDir(), "table")
	var processes []*process
	for i := range 4 {
		processes = append(processes, startProcess(t, "race", root, fmt.Sprint(i)))
	}
	for _, p := range processes {
		p.start.Close()
	}
	winner := map[string]string{}
	losers := 0
	for i, p := range processes {
		won := 0
		for p.out.Scan() {
			name := p.out.Text()
			if other, ok := winner[name]; ok {
				t.Errorf("%q was won by %s and %d", name, other, i)
			}
			winner[name] = fmt.Sprint(i)
			won++
		}
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("process %d: %v: %s", i, err, p.errs.String())
		}
		if won < raceNames {
			losers++
		}
	}
	if losers < 2 {
		t.Errorf("only %d processes lost anything: there was no race", losers)
	}
	s := open(t, root)
	for i := range raceNames {
		name := raceName(i)
		r, err := s.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		r.Close()
		if want := strings.Repeat(winner[name], 1000); err != nil || winner[name] == "" || string(content) != want {
			t.Errorf("%q: won by %q, holds %.10q (%d bytes), %v", name, winner[name], content, len(content), err)
		}
	}
	wantNoTemps(t, root)
}

func wantNoTemps(t *testing.T, root string) {
	t.Helper()
	temps, err := filepath.Glob(filepath.Join(root, "*", ".*"))
	if err != nil || len(temps) > 0 {
		t.Errorf("temporary files are left: %q, %v", temps, err)
	}
}

// TestKilledInTheMiddle kills writers and checks that what is listed is whole and that nothing else is.
func TestKilledInTheMiddle(t *testing.T) {
	root := filepath.Join(t.TempDir(), "table")
	s := open(t, root)
	leftovers := 0
	for round := range 6 {
		p := startProcess(t, "crash", root, fmt.Sprint(round))
		p.start.Close()
		time.Sleep(time.Duration(20+7*round) * time.Millisecond)
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // killed
		for info, err := range s.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Get(t.Context(), info.Name, 0, -1)
			if err != nil {
				t.Fatalf("%q is listed: %v", info.Name, err)
			}
			content, err := io.ReadAll(r)
			r.Close()
			if err != nil || len(content) < sha256.Size || sha256.Sum256(content[sha256.Size:]) != [32]byte(content[:sha256.Size]) {
				t.Fatalf("%q is listed with a part of its content (%d bytes, %v)", info.Name, len(content), err)
			}
		}
		if temps, _ := filepath.Glob(filepath.Join(root, "crash", ".*.tmp")); len(temps) > leftovers {
			leftovers = len(temps)
		}
	}
	t.Logf("%d kills left a temporary file", leftovers)
}
