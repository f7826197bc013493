// SPDX-License-Identifier: Apache-2.0

// Command devcluster runs a Kubernetes node for development and tests, with no container engine and no registry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/build"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/cluster"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

const usage = `devcluster runs a Kubernetes node for development and tests.

Every program is built from its Go module; nothing is pulled from a registry. The node lives in namespaces of its own:
no packet leaves it, nothing of this computer's network or settings changes, and "down" removes all of it.

Usage: devcluster [--name NAME] COMMAND [ARGUMENTS]

  build              install missing Debian packages and build all components into the cache
  up [--family ipv6] start the node, building what is missing; does nothing if it is up. All addresses are of one
                     family, IPv4 by default
  down               stop the node and remove everything it has left
  status             show the node's services, pods and volumes; fails if it is not up
  exec -- CMD ARGS   run a command in the node's network, with KUBECONFIG set and kubectl and ctr on PATH
  kubeconfig         print the path of the administrator's kubeconfig, for use with exec
  load IMAGE.tar...  give image archives to the node; use them with imagePullPolicy IfNotPresent or Never
  logs [COMPONENT]   print a component's log, with -f as it grows; without a component, list them
  assets             build what envtest needs and print its directory: KUBEBUILDER_ASSETS=$(devcluster assets)
  help               show this

--name NAME          which node (default "dev"); several can be up side by side

Components are built into ${MQTT_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mqtt-operator}; the first build takes
12 to 15 minutes on two cores. A node's state is in ` + cluster.Base + `/NAME. build and assets need no
root unless packages are missing; the other commands need it.
`

// errUsage is told with the way to the help text.
var errUsage = errors.New("see: devcluster help")

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case machine.FirstCommand:
			os.Exit(machine.First())
		case cluster.PayloadCommand:
			os.Exit(payload(os.Args[2]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
}

// payload becomes the process that starts the services; it ends only if it cannot.
func payload(dir string) int {
	plan, err := cluster.LoadPlan(dir)
	if err == nil {
		err = cluster.Payload(plan)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func run(ctx context.Context, args []string) error {
	name := "dev"
	args, err := flags("devcluster", args, func(f *flag.FlagSet) { f.StringVar(&name, "name", name, "") })
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return fmt.Errorf("no command: %w", errUsage)
	}
	command, args := args[0], args[1:]
	follow, typed := false, string(cluster.IPv4)
	args, err = flags(command, args, func(f *flag.FlagSet) {
		f.StringVar(&name, "name", name, "")
		if command == "up" {
			f.StringVar(&typed, "family", typed, "")
		}
		if command == "logs" {
			f.BoolVar(&follow, "f", false, "")
		}
	})
	if err != nil {
		return err
	}
	if command == "logs" && len(args) == 2 && args[1] == "-f" {
		args, follow = args[:1], true
	}
	layout, err := cluster.NewLayout(name)
	if err != nil {
		return err
	}
	takes := func(least, most int) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%s: wrong number of arguments: %w", command, errUsage)
		}
		return nil
	}

	switch command {
	case "help":
		return flag.ErrHelp
	case "build":
		if err := takes(0, 0); err != nil {
			return err
		}
		_, err := buildAll(ctx)
		return err
	case "assets":
		if err := takes(0, 0); err != nil {
			return err
		}
		return assets(ctx)
	case "up":
		if err := takes(0, 0); err != nil {
			return err
		}
		family, err := cluster.FamilyOf(typed)
		if err != nil {
			return fmt.Errorf("up: %w: %w", err, errUsage)
		}
		return up(ctx, layout, family)
	case "down":
		if err := takes(0, 0); err != nil {
			return err
		}
		return down(ctx, layout)
	case "status":
		if err := takes(0, 0); err != nil {
			return err
		}
		if err := cluster.Status(ctx, layout, os.Stdout); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
		return nil
	case "exec":
		if len(args) == 0 {
			return fmt.Errorf("exec: no command: %w", errUsage)
		}
		if err := cluster.Exec(layout, args); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
		return nil
	case "kubeconfig":
		if err := takes(0, 0); err != nil {
			return err
		}
		if !machine.Alive(layout.Dir) {
			return fmt.Errorf("cluster %s: %w", name, cluster.ErrDown)
		}
		fmt.Println(layout.Kubeconfig())
		return nil
	case "load":
		if len(args) == 0 {
			return fmt.Errorf("load: no image archive: %w", errUsage)
		}
		if err := cluster.Load(ctx, layout, args, os.Stdout); err != nil {
			return fmt.Errorf("cluster %s: %w", name, err)
		}
		return nil
	case "logs":
		if err := takes(0, 1); err != nil {
			return err
		}
		return logs(layout, args, follow)
	default:
		return fmt.Errorf("unknown command %q: %w", command, errUsage)
	}
}

func flags(name string, args []string, define func(*flag.FlagSet)) ([]string, error) {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	define(set)
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errUsage)
	}
	return set.Args(), nil
}

func newBuilder() (*build.Builder, error) {
	source := os.Getenv("DEVCLUSTER_SOURCE")
	if source == "" {
		working, _ := os.Getwd()
		executable, _ := os.Executable()
		_, here, _, _ := runtime.Caller(0)
		var err error
		if source, err = build.SourceRoot(working, filepath.Dir(executable), filepath.Dir(here)); err != nil {
			return nil, err
		}
	}
	cache, err := build.CacheRoot(os.Getenv)
	if err != nil {
		return nil, err
	}
	return &build.Builder{Source: source, Cache: cache, Out: os.Stderr}, nil
}

func buildAll(ctx context.Context) (map[string]string, error) {
	builder, err := newBuilder()
	if err != nil {
		return nil, err
	}
	if err := build.System(ctx, os.Stderr); err != nil {
		return nil, err
	}
	return builder.Build(ctx, build.All...)
}

func assets(ctx context.Context) error {
	builder, err := newBuilder()
	if err != nil {
		return err
	}
	dir, err := builder.Assets(ctx)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

func up(ctx context.Context, layout cluster.Layout, family cluster.Family) error {
	if os.Geteuid() != 0 {
		return errors.New("up: needs root: sudo env PATH=\"$PATH\" devcluster up")
	}
	components, err := buildAll(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	say := func(step string) {
		fmt.Fprintf(os.Stderr, "%4.1fs  %s\n", time.Since(start).Seconds(), step)
	}
	err = cluster.Up(ctx, layout, family, components, say)
	if errors.Is(err, cluster.ErrUp) || errors.Is(err, cluster.ErrUpOld) {
		fmt.Fprintf(os.Stderr, "cluster %s: %v\n", layout.Name, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cluster %s: %w\nall logs are in %s; \"devcluster up\" tries again, \"devcluster down\" cleans up",
			layout.Name, err, filepath.Dir(layout.Log("*")))
	}
	say("ready")
	fmt.Fprintf(os.Stderr, "try: devcluster --name %s exec -- kubectl get nodes\n", layout.Name)
	return nil
}

func down(ctx context.Context, layout cluster.Layout) error {
	if os.Geteuid() != 0 {
		return errors.New("down: needs root: sudo devcluster down")
	}
	found, err := cluster.Down(ctx, layout, func(step string) { fmt.Fprintln(os.Stderr, step) })
	if err != nil {
		return fmt.Errorf("cluster %s: %w", layout.Name, err)
	}
	if !found {
		fmt.Fprintf(os.Stderr, "cluster %s: nothing to remove\n", layout.Name)
		return nil
	}
	fmt.Fprintf(os.Stderr, "cluster %s: removed\n", layout.Name)
	return nil
}

func logs(layout cluster.Layout, args []string, follow bool) error {
	components := cluster.Components(layout)
	if len(components) == 0 {
		return fmt.Errorf("cluster %s: no logs: %w", layout.Name, cluster.ErrDown)
	}
	if len(args) == 0 {
		fmt.Println(strings.Join(components, "\n"))
		return nil
	}
	path := layout.Log(args[0])
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("no log of %q: have %s", args[0], strings.Join(components, ", "))
	}
	if follow {
		tail, err := exec.LookPath("tail")
		if err != nil {
			return err
		}
		return syscall.Exec(tail, []string{"tail", "-n", "+1", "-F", path}, os.Environ())
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}
