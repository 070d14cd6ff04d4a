package kernel

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dmfs/tests/scenario"
	"dmfs/tests/scenario/inprocess"
)

var golden = flag.Bool("golden", false, "record the goldens of the scenarios anew")

// guest is the kernel that the tests of this package share.
var guest struct {
	sync.Mutex
	*Guest
}

// boot returns the running kernel, or skips the test. Tests that use it do not run in parallel.
func boot(t *testing.T) *Guest {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	guest.Lock()
	defer guest.Unlock()
	if guest.Guest == nil {
		g, err := Boot()
		if err != nil {
			t.Fatal(err)
		}
		guest.Guest = g
	}
	return guest.Guest
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		defer func() {
			if guest.Guest != nil {
				guest.Close()
			}
		}()
		return m.Run()
	}())
}

func load(t *testing.T) ([]*scenario.Scenario, *scenario.Differences) {
	t.Helper()
	list, err := scenario.Load(scenario.Dir())
	if err != nil {
		t.Fatal(err)
	}
	ds, err := scenario.LoadDifferences(filepath.Join(scenario.Dir(), "differences.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return list, ds
}

// The core and the targets do in process what the kernel did when the goldens were recorded.
func TestInProcess(t *testing.T) {
	list, ds := load(t)
	var played []string
	for _, s := range list {
		t.Run(s.Name, func(t *testing.T) {
			want, err := scenario.LoadGolden(scenario.Dir(), s.Name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := scenario.Play(s, inprocess.New(t.TempDir()))
			if scenario.IsCannot(err) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := ds.Compare(s.Name, "process", want, got); err != nil {
				t.Error(err)
			}
			played = append(played, s.Name)
		})
	}
	for _, d := range ds.Unused("process", played) {
		t.Errorf("differences.toml: %s, step %q no longer differs in process: %s", d.Scenario, d.Step, d.Reason)
	}
}

// The goldens are what the kernel does. With -golden they are recorded, those of scenarios that only we can play from what we do:
// read what changed.
func TestGoldens(t *testing.T) {
	boot(t)
	list, ds := load(t)
	for _, s := range list {
		t.Run(s.Name, func(t *testing.T) {
			if s.Ours {
				if *golden {
					recordOurs(t, s)
				}
				return
			}
			got, err := playThere(t, s, Images{})
			if err != nil {
				t.Fatal(err)
			}
			release := boot(t).Release
			if *golden {
				record(t, s, got, "Linux "+release+" (user-mode-linux)")
			}
			want, err := scenario.LoadGolden(scenario.Dir(), s.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := ds.OfOneRun().Compare(s.Name, "kernel "+release, want, got); err != nil {
				t.Errorf("the kernel differs from its golden; if it is another kernel, `make golden` records it:\n%v", err)
			}
		})
	}
}

func recordOurs(t *testing.T, s *scenario.Scenario) {
	t.Helper()
	got, err := scenario.Play(s, inprocess.New(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	record(t, s, got, "Dmfs (in process; the kernel cannot)")
}

func record(t *testing.T, s *scenario.Scenario, tr scenario.Transcript, who string) {
	t.Helper()
	text := fmt.Sprintf("# %s played %s.scenario. `make golden` records it anew.\n%s", who, s.Name, tr.Text())
	if err := os.WriteFile(scenario.GoldenPath(scenario.Dir(), s.Name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
