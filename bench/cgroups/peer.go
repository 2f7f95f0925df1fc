// The peer of the cgroup rows: libcontainer's own managers, on the group that they are given. Reads "WORK COUNT" from its input
// and answers with the nanoseconds that each took.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer/cgroups"
	"github.com/opencontainers/runc/libcontainer/cgroups/fs"
	"github.com/opencontainers/runc/libcontainer/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/configs"
)

func manager(directories map[string]string, config *configs.Cgroup) cgroups.Manager {
	var m cgroups.Manager
	var err error
	if path, unified := directories["unified"]; unified {
		m, err = fs2.NewManager(config, path)
	} else {
		m, err = fs.NewManager(config, directories)
	}
	if err != nil {
		panic(err)
	}
	return m
}

func config(path string) *configs.Cgroup {
	return &configs.Cgroup{Path: path, Resources: &configs.Resources{}}
}

// As runc does: the child waits until it is where it belongs. This one waits for the end of its input.
func startThenMove(m cgroups.Manager) {
	cmd := exec.Command("/bin/cat")
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = m.Apply(cmd.Process.Pid)
	}
	if err != nil {
		panic(err)
	}
	input.Close()
	cmd.Wait()
}

func main() {
	directories := map[string]string{}
	for _, pair := range os.Args[1:] {
		words := strings.SplitN(pair, "=", 2)
		directories[words[0]] = words[1]
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var work string
		var count int
		fmt.Sscan(input.Text(), &work, &count)
		start := time.Now()
		switch work {
		case "stats":
			m := manager(directories, config("/"))
			start = time.Now()
			for i := 0; i < count; i++ {
				if _, err := m.GetStats(); err != nil {
					panic(err)
				}
			}
		case "spawn":
			m := manager(directories, config("/"))
			start = time.Now()
			for i := 0; i < count; i++ {
				startThenMove(m)
			}
		case "create":
			for i := 0; i < count; i++ {
				own := map[string]string{}
				for controller, path := range directories {
					own[controller] = filepath.Join(filepath.Dir(path), fmt.Sprintf("go-%d", i))
				}
				c := config("/")
				m := manager(own, c)
				for _, path := range own {
					if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
						panic(err)
					}
				}
				c.Resources = &configs.Resources{
					Memory: 64 << 20, MemorySwap: 64 << 20, PidsLimit: 64, CpuQuota: 50000, CpuPeriod: 100000, CpuShares: 512, SkipDevices: true,
				}
				if err := m.Set(c.Resources); err != nil {
					panic(err)
				}
				if err := m.Destroy(); err != nil {
					panic(err)
				}
			}
		}
		fmt.Println(time.Since(start).Nanoseconds() / int64(count))
	}
}
