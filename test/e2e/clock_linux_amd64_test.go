package e2e

import (
	"bytes"
	"debug/elf"
	littleendian "encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clock is the wall clock of one process, which can be made to jump while the machine's stays. Go asks the kernel's vDSO for the time, of which
// each process has a copy: in this one's, clock_gettime adds to the wall clock what is in a word beside it. The monotonic clock does not jump.
type clock struct {
	t      testing.TB
	memory *os.File
	ahead  int64 // address of the word, in seconds
}

// clockCode is put into the end of the vDSO, and clock_gettime jumps to it:
//
//	mov eax, 228; syscall        the kernel's own clock_gettime(edi: clock, rsi: result)
//	test edi, edi; jne end       0 is the wall clock
//	mov rcx, [rip+14]            the word behind this code
//	add [rsi], rcx               to the seconds
//	end: ret
var clockCode = []byte{
	0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x0a, 0x48, 0x8b, 0x0d, 14, 0, 0, 0, 0x48, 0x01, 0x0e, 0xc3,
}

const clockWord = 32 // where the word is, behind the begin of the code

func takeClock(t testing.TB, p *process) *clock {
	t.Helper()
	pid := p.cmd.Process.Pid
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		missing(t, "this test changes the memory of a process that it has started: %v", err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	from, vdso := readVDSO(t, pid, memory)
	code := int64(len(vdso) - 64)
	if !bytes.Equal(vdso[code:], make([]byte, 64)) {
		t.Fatal("the end of the vDSO is in use")
	}
	at := functionOf(t, vdso, "__vdso_clock_gettime")
	jump := littleendian.LittleEndian.AppendUint32([]byte{0xe9}, uint32(code-at-5))

	for tries := 0; ; tries++ { // nobody may be in the function while it changes
		p.signal(syscall.SIGSTOP)
		if standsOutside(t, pid, from, from+int64(len(vdso))) {
			break
		}
		p.signal(syscall.SIGCONT)
		if tries == 1000 {
			t.Fatal("the process never stood outside of the vDSO")
		}
	}
	defer p.signal(syscall.SIGCONT)
	c := &clock{t: t, memory: memory, ahead: from + code + clockWord}
	c.write(clockCode, from+code)
	c.write(jump, from+at)
	return c
}

func (c *clock) write(data []byte, at int64) {
	c.t.Helper()
	if _, err := c.memory.WriteAt(data, at); err != nil {
		missing(c.t, "this test changes the vDSO of a process that it has started: %v", err)
	}
}

// set has the clock be so far ahead of the machine's, or behind it.
func (c *clock) set(ahead time.Duration) {
	c.t.Helper()
	c.write(littleendian.LittleEndian.AppendUint64(nil, uint64(int64(ahead/time.Second))), c.ahead) // eight bytes in line are written at once
}

func readVDSO(t testing.TB, pid int, memory *os.File) (from int64, vdso []byte) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	fatal(t, err)
	for line := range strings.Lines(string(maps)) {
		var to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err == nil && strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			vdso = make([]byte, to-from)
			_, err := memory.ReadAt(vdso, from)
			fatal(t, err)
			return from, vdso
		}
	}
	t.Fatal("the process has no vDSO")
	return 0, nil
}

func functionOf(t testing.TB, library []byte, name string) int64 {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(library))
	fatal(t, err)
	symbols, err := f.DynamicSymbols()
	fatal(t, err)
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("the vDSO has no %s", name)
	}
	return int64(symbols[i].Value)
}

// standsOutside waits until a process that was stopped stands still, and tells whether none of its threads is in the range.
func standsOutside(t testing.TB, pid int, from, to int64) bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	fatal(t, err)
	for _, task := range tasks {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			text, err := os.ReadFile(task)
			fatal(t, err)
			if words := strings.Fields(string(text)); words[0] != "running" { // the last one is where it stands
				at, err := strconv.ParseInt(strings.TrimPrefix(words[len(words)-1], "0x"), 16, 64)
				fatal(t, err)
				if at >= from && at < to {
					return false
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the process does not stop")
			}
		}
	}
	return true
}

// TestGuardClockJumps has the wall clock of a worker jump by hours and months while it runs and messages come in. Everything is there once; versions
// and offsets are not taken for old, neither its own nor those of a stream that rests.
func TestGuardClockJumps(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	g := newGuarded(t, "guard-clock", 2, func(s *stream) {
		s.interval = 100 * time.Millisecond
		s.properties = `{delta.enableInCommitTimestamps: "true", delta.setTransactionRetentionDuration: "interval 7 days", delta.checkpointInterval: "5"}`
	})
	rests := newGuarded(t, "guard-clock-rests", 2, func(s *stream) { s.table = g.table })
	p := g.assigned()
	c := takeClock(t, p)
	for _, ahead := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour, 2 * month, 0, -2 * month, 0} {
		c.set(ahead)
		seen := len(p.log())
		lines := func() []logLine { return p.log()[seen:] }
		isCheckpoint := func(l logLine) bool { return l.msg() == "a log checkpoint is written" }
		for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(lines(), isCheckpoint); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no log checkpoint comes while the clock is %v ahead", ahead)
			}
			g.produce(2, 0, 1)
		}
		last := lines()[len(lines())-1]
		told, err := time.Parse(time.RFC3339Nano, fmt.Sprint(last.fields["time"]))
		if off := time.Since(told) + ahead; err != nil || off.Abs() > time.Minute {
			t.Errorf("the worker's clock should be %v ahead, and it says %v: %v", ahead, told, err)
		}
	}
	g.stop(p)
	for _, s := range []*guarded{rests, g} {
		s.produce(5, 0, 1)
		untilEnd(t, s.config)
	}
	for _, s := range []*guarded{rests, g} {
		if v := wantVerified(t, s.config, g.table); v.Rows != int64(len(g.sent)+len(rests.sent)) {
			t.Errorf("the table has %d rows, want each of %d and %d messages once", v.Rows, len(g.sent), len(rests.sent))
		}
	}
	before := int64(0) // all versions are there, and their times never go back
	for _, m := range regexp.MustCompile(`"inCommitTimestamp":(\d+)`).FindAllStringSubmatch(g.log(), -1) {
		at, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || at <= before {
			t.Errorf("a version of %d comes after one of %d", at, before)
		}
		before = at
	}
}
