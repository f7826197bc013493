// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const servicesFile = "services.json"

// Service is a program that runs as long as the machine does.
type Service struct {
	Name string
	Argv []string
	// Path is put before the PATH that the machine was started with.
	Path string
}

// ServiceStatus is what the host may know about a service.
type ServiceStatus struct {
	Name    string    `json:"name"`
	Running bool      `json:"running"`
	Since   time.Time `json:"since"`
	// Restarts counts how often it ended and was started again; Last says how it ended.
	Restarts int    `json:"restarts"`
	Last     string `json:"last,omitempty"`
}

// Report is the payload's account of itself, kept in the state directory.
type Report struct {
	Ready    bool            `json:"ready"`
	Services []ServiceStatus `json:"services"`
}

// Payload is the payload's side of a machine: it starts services, announces steps and keeps the report.
type Payload struct {
	dir   string
	steps *os.File

	mu     sync.Mutex
	report Report
	// broken receives the first service that will not stay up before the machine is ready.
	broken chan error
}

// patience is how often a service may end before the machine is ready. More than once, for on a slow machine one
// service may give up waiting for another.
const patience = 5

// NewPayload is to be called once, by the program that First started.
func NewPayload(dir string) *Payload {
	// Were it passed on, Start would wait for the services to close it too.
	unix.CloseOnExec(stepsFD)
	return &Payload{dir: dir, steps: os.NewFile(stepsFD, "steps"), broken: make(chan error, 1)}
}

// Step announces what is being done.
func (p *Payload) Step(format string, args ...any) {
	if _, err := fmt.Fprintf(p.steps, "step "+format+"\n", args...); err != nil {
		// The command that wanted a machine is gone, and nobody would ever use this one.
		os.Exit(1)
	}
}

// Ready says that the machine is in order, and lets the command that waits for it go.
func (p *Payload) Ready() {
	p.mu.Lock()
	p.report.Ready = true
	p.save()
	p.mu.Unlock()
	fmt.Fprintln(p.steps, "ready")
	p.steps.Close()
}

// Fail says why there will be no machine. The caller ends the process then.
func (p *Payload) Fail(err error) {
	tellFailed(p.steps, err)
}

// Broken delivers an error when a service will not stay up.
func (p *Payload) Broken() <-chan error {
	return p.broken
}

// Start starts a service and starts it again whenever it ends.
func (p *Payload) Start(ctx context.Context, service Service) {
	p.mu.Lock()
	index := len(p.report.Services)
	p.report.Services = append(p.report.Services, ServiceStatus{Name: service.Name})
	p.mu.Unlock()
	go func() {
		pause := time.Second
		for ctx.Err() == nil {
			started := time.Now()
			err := p.runOnce(service, func() { p.update(index, func(s *ServiceStatus) { s.Running, s.Since = true, started }) })
			var restarts int
			p.update(index, func(s *ServiceStatus) {
				s.Running, s.Since, s.Last = false, time.Now(), ended(err)
				s.Restarts++
				restarts = s.Restarts
			})
			fmt.Printf("%s %s: %s\n", time.Now().Format(time.RFC3339), service.Name, ended(err))
			if restarts >= patience {
				log := filepath.Join(p.dir, Logs, service.Name+".log")
				select {
				case p.broken <- fmt.Errorf("%s ended %d times, the last time with: %s\n%s\nthe whole log: %s",
					service.Name, restarts, ended(err), lastLines(log, 12), log):
				default:
				}
			}
			if time.Since(started) > time.Minute {
				pause = time.Second
			}
			time.Sleep(pause)
			pause = min(2*pause, 10*time.Second)
		}
	}()
}

func (p *Payload) runOnce(service Service, started func()) error {
	log, err := os.OpenFile(filepath.Join(p.dir, Logs, service.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(service.Argv[0], service.Argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=/root", "PATH=" + os.Getenv("PATH")}
	if service.Path != "" {
		cmd.Env[1] = "PATH=" + service.Path + ":" + os.Getenv("PATH")
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	started()
	return cmd.Wait()
}

func (p *Payload) update(index int, change func(*ServiceStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.report.Services[index])
	p.save()
}

// save is called with mu held.
func (p *Payload) save() {
	content, err := json.MarshalIndent(p.report, "", "  ")
	if err == nil {
		err = writeWhole(filepath.Join(p.dir, servicesFile), content)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
}

func ended(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "exit status 0"
	case errors.As(err, &exit):
		return exit.ProcessState.String()
	default:
		return err.Error()
	}
}

// ReadReport reads what the payload of the machine with this state directory last wrote.
func ReadReport(dir string) (Report, error) {
	var report Report
	content, err := os.ReadFile(filepath.Join(dir, servicesFile))
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal(content, &report)
}
