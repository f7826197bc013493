// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// recipe is what a Dockerfile says, as far as this command can follow it.
type recipe struct {
	Packages   []string          // what the build stage compiles into /out
	Files      map[string]string // path in the image: name of a compiled program
	Labels     map[string]string
	User       string
	Entrypoint []string
}

// built is where the build stage leaves its programs.
const built = "/out/"

// readRecipe reads the ARG PACKAGES of the build stage and every instruction of the last one.
func readRecipe(path string, args map[string]string) (recipe, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return recipe{}, err
	}
	r, err := parseRecipe(string(text), args)
	if err != nil {
		return recipe{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parseRecipe(text string, args map[string]string) (recipe, error) {
	r := recipe{Files: map[string]string{}, Labels: map[string]string{}}
	stages := split(text)
	if len(stages) < 2 {
		return r, fmt.Errorf("want a stage that builds and a last one, found %d", len(stages))
	}
	for _, in := range stages[len(stages)-2] {
		if packages, ok := strings.CutPrefix(in.rest, "PACKAGES="); ok && in.word == "ARG" {
			r.Packages = strings.Fields(strings.Trim(packages, `"`))
		}
	}
	if len(r.Packages) == 0 {
		return r, errors.New(`the stage that builds has no ARG PACKAGES="..."`)
	}

	values := map[string]string{}
	for _, in := range stages[len(stages)-1] {
		if err := r.follow(in, values, args); err != nil {
			return r, fmt.Errorf("line %d: %w", in.line, err)
		}
	}
	if r.User == "" || len(r.Entrypoint) == 0 || len(r.Files) == 0 {
		return r, errors.New("the last stage needs COPY, USER and ENTRYPOINT")
	}
	return r, nil
}

// follow takes one instruction of the last stage.
func (r *recipe) follow(in instruction, values, args map[string]string) error {
	rest := os.Expand(in.rest, func(name string) string { return values[name] })
	switch in.word {
	case "FROM":
		return nil
	case "ARG":
		name, value, _ := strings.Cut(rest, "=")
		if given, ok := args[name]; ok {
			value = given
		}
		values[name] = value
		return nil
	case "LABEL":
		return r.label(rest)
	case "COPY":
		paths, fromBuild := strings.CutPrefix(rest, "--from=build "+built)
		from, to, two := strings.Cut(paths, " ")
		if !fromBuild || !two || strings.Contains(from, "/") || !strings.HasPrefix(to, "/") {
			return fmt.Errorf("COPY %s: want --from=build %sPROGRAM /PATH", rest, built)
		}
		r.Files[to] = from
		return nil
	case "USER":
		if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(rest) {
			return fmt.Errorf("USER %s: want UID:GID in numbers and not root, or runAsNonRoot cannot tell", rest)
		}
		r.User = rest
		return nil
	case "ENTRYPOINT":
		if err := json.Unmarshal([]byte(rest), &r.Entrypoint); err != nil {
			return fmt.Errorf(`ENTRYPOINT %s: want ["/PROGRAM"]: %w`, rest, err)
		}
		return nil
	default:
		return fmt.Errorf("%s: hack/images does not know this instruction", in.word)
	}
}

// label takes KEY="VALUE" pairs.
func (r *recipe) label(rest string) error {
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return fmt.Errorf(`LABEL %s: want KEY="VALUE"`, rest)
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			return fmt.Errorf("LABEL %s: the value needs quotes", key)
		}
		if r.Labels[key], err = strconv.Unquote(quoted); err != nil {
			return fmt.Errorf("LABEL %s: %w", key, err)
		}
		rest = after[len(quoted):]
	}
	return nil
}

type instruction struct {
	line       int
	word, rest string
}

// split cuts a Dockerfile into stages; what stands before the first FROM belongs to none.
func split(text string) [][]instruction {
	var stages [][]instruction
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		first, whole := i+1, strings.TrimSpace(lines[i])
		for strings.HasSuffix(whole, `\`) && i+1 < len(lines) {
			i++
			whole = strings.TrimSpace(strings.TrimSuffix(whole, `\`)) + " " + strings.TrimSpace(lines[i])
		}
		if whole == "" || strings.HasPrefix(whole, "#") {
			continue
		}
		word, rest, _ := strings.Cut(whole, " ")
		in := instruction{line: first, word: strings.ToUpper(word), rest: strings.TrimSpace(rest)}
		if in.word == "FROM" {
			stages = append(stages, nil)
		}
		if n := len(stages); n > 0 {
			stages[n-1] = append(stages[n-1], in)
		}
	}
	return stages
}
