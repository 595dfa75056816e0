module github.com/muster-project/muster

go 1.26.0
