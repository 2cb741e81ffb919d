/* The manifest is an ELF note; there is nothing to call. */
