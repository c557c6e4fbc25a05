# The targets a person types: deps, check, bench, demo, install, clean
clean:
	rm -rf build build-san
.PHONY: clean
