package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"dmfs/cmd/internal/container"
	"dmfs/targets/verity"
)

// verityTableCommand is `dmfs verity-table [--hash-offset BYTES] DATA HASH ROOT`: it prints the table line of an image of veritysetup.
func verityTableCommand(args []string) int {
	const name = "dmfs verity-table"
	offset := "0"
	words, err := parseArgs(args, []flag{
		{names: "--hash-offset", take: func(v string) { offset = v }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"verity-table"})) }},
	})
	if err == nil {
		err = printVerityTable(words, offset)
	}
	if err != nil {
		complain(name, err)
		return exitFail
	}
	return exitOK
}

func printVerityTable(words []string, offsetText string) error {
	if len(words) != 3 {
		return fmt.Errorf("%d arguments: want DATA HASH ROOT, the disks and the root digest that `veritysetup format` printed", len(words))
	}
	data, hash, root := words[0], words[1], words[2]
	offset, err := strconv.ParseInt(offsetText, 10, 63)
	if err != nil || offset < 0 || offset%verity.SuperblockSize != 0 {
		return fmt.Errorf("--hash-offset %q: want bytes, a multiple of %d", offsetText, verity.SuperblockSize)
	}
	s, err := container.ReadVerity(hash, offset)
	if err != nil {
		return err
	}
	fmt.Println(s.Spec(data, hash, offset, strings.ToLower(root)))
	return nil
}
