package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// progress shows what is going on on a terminal; an empty line ends it.
func progress(format string, args ...any) {
	if st, err := os.Stderr.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
}

// best returns the server among those whose name begins with prefix that is fastest at a workload.
func best(results map[string]float64, prefix string) (name string, v float64) {
	for n, x := range results {
		if strings.HasPrefix(n, prefix) && x > v {
			name, v = n, x
		}
	}
	return name, v
}

// printPlace prints the medians and the ratios of dmfs to the others.
func printPlace(p *place) {
	fmt.Printf("\n%s (%s), medians\n", p.Dir, p.FileSystem)
	var servers []string
	for _, results := range p.Results {
		for name := range results {
			if !slices.Contains(servers, name) {
				servers = append(servers, name)
			}
		}
	}
	order := []string{"raw", "linear", "striped", "qsd-threads", "qsd-native", "qsd-io_uring", "nbdfuse"}
	slices.SortFunc(servers, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "workload\tunit\t%s\t\n", strings.Join(servers, "\t"))
	for _, w := range workloads {
		fmt.Fprintf(tw, "%s\t%s\t", w.Name, w.unit)
		for _, s := range servers {
			fmt.Fprintf(tw, "%.0f\t", p.Results[w.Name][s])
		}
		fmt.Fprintln(tw)
	}
	tw.Flush() //nolint:errcheck // standard output
	fmt.Printf("\nratios of medians\n")
	fmt.Fprintf(tw, "workload\tlinear/raw\tlinear/best qsd\tlinear/nbdfuse\tstriped/linear\t\n")
	for _, w := range workloads {
		r := p.Results[w.Name]
		_, qsd := best(r, "qsd-")
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t\n", w.Name,
			ratio(r["linear"], r["raw"]), ratio(r["linear"], qsd), ratio(r["linear"], r["nbdfuse"]), ratio(r["striped"], r["linear"]))
	}
	tw.Flush() //nolint:errcheck // standard output
}

// printSet prints the medians of a set, and the ratios that it is about.
func printSet(p *place, set benchSet) {
	fmt.Printf("\n%s (%s), medians\n", p.Dir, p.FileSystem)
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "workload\tunit\t")
	for _, s := range set.servers {
		fmt.Fprintf(tw, "%s\t", s.name)
	}
	for _, r := range set.ratios {
		fmt.Fprintf(tw, "%s/%s\t", r[0], r[1])
	}
	fmt.Fprintln(tw)
	for _, w := range slices.Concat(workloads, firstWrites) {
		results := p.Results[w.Name]
		if results == nil {
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t", w.Name, w.unit)
		for _, s := range set.servers {
			if v, ok := results[s.name]; ok {
				fmt.Fprintf(tw, "%.0f\t", v)
			} else {
				fmt.Fprint(tw, "-\t")
			}
		}
		for _, r := range set.ratios {
			fmt.Fprintf(tw, "%s\t", ratio(results[r[0]], results[r[1]]))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush() //nolint:errcheck // standard output
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func printService(r *report) {
	fmt.Println()
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, name := range []string{"mount ready", "create to usable", "resident at rest", "peak under 4096 parallel 1 MiB requests"} {
		fmt.Fprintf(tw, "%s\t%.1f %s\n", name, r.Service[name].Median, r.Service[name].Unit)
	}
	tw.Flush() //nolint:errcheck // standard output
}
