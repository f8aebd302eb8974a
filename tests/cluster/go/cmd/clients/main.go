// Command clients is kubectl and helm in one program, which is told by its name which it is.
//
// Why: helm contains most of kubectl. Why not in the servers' program too: the tests start these hundreds of times, and a program
// with the API server in it takes several times as long to start.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	helm "helm.sh/helm/v4/pkg/cmd"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err)
		}
	case "helm":
		command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
		if err != nil {
			fmt.Fprintln(os.Stderr, "helm:", err)
			os.Exit(1)
		}
		// It has said what is wrong itself.
		if command.Execute() != nil {
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "no client is named %s: start this through one of the links beside it\n", name)
		os.Exit(64)
	}
}
