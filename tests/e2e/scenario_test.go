package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"dmfs/tests/scenario"
	driver "dmfs/tests/scenario/mounted"
)

// The built program does on a mount what the kernel did when the goldens were recorded.
func TestScenarios(t *testing.T) {
	list, err := scenario.Load(scenario.Dir())
	must(t, err)
	ds, err := scenario.LoadDifferences(filepath.Join(scenario.Dir(), "differences.toml"))
	must(t, err)
	b := newBench(t)
	b.mount("")
	d := driver.New(b.mnt, b.dir)
	var played []string
	for _, s := range list {
		t.Run(s.Name, func(t *testing.T) {
			must(t, os.Mkdir(b.path(s.Name), 0o755))
			d.Move(b.path(s.Name))
			want, err := scenario.LoadGolden(scenario.Dir(), s.Name)
			must(t, err)
			got, err := scenario.Play(s, d)
			if scenario.IsCannot(err) {
				t.Logf("not played through a mount: %v", err)
				return
			}
			must(t, err)
			if err := ds.Compare(s.Name, "mount", want, got); err != nil {
				t.Error(err)
			}
			played = append(played, s.Name)
		})
	}
	for _, d := range ds.Unused("mount", played) {
		t.Errorf("differences.toml: %s, step %q no longer differs through a mount: %s", d.Scenario, d.Step, d.Reason)
	}
}
