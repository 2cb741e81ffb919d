/// What a plugin in C has beside its code, with `{{...}}` for what is its own.
enum CPackageTemplate {
  /// Makefile.
  static let makefile =
    ##"""
    # The plugin's shared library. BACKPLANE_INCLUDE is the folder that holds backplane/core.h.
    BACKPLANE_INCLUDE ?= {{include}}
    CFLAGS ?= -O2
    PLUGIN = {{slug}}.so

    # The entry alone is exported; an undefined symbol is an error now instead of when it is loaded; the image stays mapped.
    # -Wa,-I. is for the manifest, which the assembler includes.
    $(PLUGIN): plugin.c manifest.json exports.map
    	$(CC) $(CFLAGS) -std=c11 -Wall -Wextra -fPIC -shared -fvisibility=hidden -pthread \
    	  -Wl,-z,defs -Wl,-z,nodelete -Wl,--version-script=exports.map \
    	  -Wa,-I. -I$(BACKPLANE_INCLUDE) plugin.c -o $@.tmp
    	mv $@.tmp $@

    clean:
    	rm -f $(PLUGIN) $(PLUGIN).tmp

    .PHONY: clean

    """##

  /// .gitignore.
  static let ignore =
    ##"""
    *.so
    *.tmp

    """##
}
