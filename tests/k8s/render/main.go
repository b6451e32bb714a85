// Command render executes a Helm chart's templates with Helm's own template engine (text/template
// and sprig), for machines without `helm`.
//
// It reads one JSON request from standard input, {"chart": dir, "values": {...}, "release": name,
// "namespace": name}, and writes {"documents": {template: text}} or {"error": message}. Values are
// laid over the chart's values.yaml as Helm does (a null removes a key).
//
// Not covered: dependencies, hooks' order, `lookup` (empty, as in `helm template`), .Files.Glob,
// and values.schema.json, which the tests check beside it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type tree = map[string]interface{}

type request struct {
	Chart     string `json:"chart"`
	Values    tree   `json:"values"`
	Release   string `json:"release"`
	Namespace string `json:"namespace"`
}

// files is what templates see as .Files.
type files map[string]string

func (f files) Get(name string) string { return f[name] }

func main() {
	var asked request
	answer := tree{}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		answer["error"] = err.Error()
	} else if documents, err := render(asked); err != nil {
		answer["error"] = err.Error()
	} else {
		answer["documents"] = documents
	}
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(asked request) (map[string]string, error) {
	values, err := readYAML(filepath.Join(asked.Chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	chart, err := readYAML(filepath.Join(asked.Chart, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	texts, err := readAll(asked.Chart)
	if err != nil {
		return nil, err
	}
	context := tree{
		"Values": overlay(values, asked.Values),
		"Chart":  capitalised(chart),
		"Files":  texts,
		"Release": tree{
			"Name": asked.Release, "Namespace": asked.Namespace, "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
		"Capabilities": tree{"KubeVersion": tree{"Version": "v1.37.0", "Major": "1", "Minor": "37"}},
	}
	return execute(fmt.Sprint(chart["name"]), texts, context)
}

// execute parses every template into one set, as Helm does, and runs those that are no partials.
func execute(chart string, texts files, context tree) (map[string]string, error) {
	set := template.New("chart").Option("missingkey=zero")
	set.Funcs(functions(set))
	for name, text := range texts {
		if strings.HasPrefix(name, "templates/") {
			if _, err := set.New(path.Join(chart, name)).Parse(text); err != nil {
				return nil, err
			}
		}
	}
	rendered := map[string]string{}
	for name := range texts {
		if !strings.HasPrefix(name, "templates/") || strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		full := path.Join(chart, name)
		context["Template"] = tree{"Name": full, "BasePath": path.Join(chart, "templates")}
		var out strings.Builder
		if err := set.ExecuteTemplate(&out, full, context); err != nil {
			return nil, err
		}
		rendered[name] = strings.ReplaceAll(out.String(), "<no value>", "")
	}
	return rendered, nil
}

// functions are sprig's less those that read this process's environment, and Helm's own.
func functions(set *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := set.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["tpl"] = func(text string, data interface{}) (string, error) {
		clone, err := set.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := clone.New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = parsed.Execute(&out, data)
		return out.String(), err
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	all["lookup"] = func(...string) tree { return tree{} }
	all["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	all["fromYaml"] = func(text string) tree {
		value := tree{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	all["fromYamlArray"] = func(text string) []interface{} {
		value := []interface{}{}
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			value = []interface{}{err.Error()}
		}
		return value
	}
	return all
}

// overlay lays `over` on `base`: mappings merge, everything else replaces, null removes.
func overlay(base, over tree) tree {
	merged := tree{}
	for key, value := range base {
		merged[key] = value
	}
	for key, value := range over {
		if value == nil {
			delete(merged, key)
			continue
		}
		below, isBelow := merged[key].(tree)
		above, isAbove := value.(tree)
		if isBelow && isAbove {
			merged[key] = overlay(below, above)
		} else {
			merged[key] = value
		}
	}
	return merged
}

// capitalised gives Chart.yaml's keys the names that templates know them by.
func capitalised(chart tree) tree {
	named := tree{}
	for key, value := range chart {
		named[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return named
}

func readYAML(name string) (tree, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	value := tree{}
	return value, yaml.Unmarshal(text, &value)
}

func readAll(root string) (files, error) {
	found := files{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		found[filepath.ToSlash(relative)] = string(text)
		return err
	})
	return found, err
}
