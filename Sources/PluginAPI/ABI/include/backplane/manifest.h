/*
 * backplane/manifest.h - puts manifest.json into the plugin as an ELF note, where the kernel reads it without running
 * a line of the plugin's code.
 *
 * The note is an Elf64_Nhdr {namesz 10, descsz the JSON's length, type 1}, the name "Backplane", the JSON; each part
 * 4-byte aligned, in the section .note.backplane, at most 64 KiB. In one C file of the plugin, at file scope:
 *
 *     #include <backplane/manifest.h>
 *     BACKPLANE_MANIFEST("manifest.json")
 *
 * The path is searched like an #include: add the folder of manifest.json with -I (gcc: also -Wa,-I).
 *
 * BACKPLANE_MANIFEST also defines backplane_manifest, a hidden byte inside the note. Refer to it from the entry when the
 * note would otherwise be dropped (--gc-sections, archives).
 */
#ifndef BACKPLANE_MANIFEST_H
#define BACKPLANE_MANIFEST_H

/* clang-format off */
#define BACKPLANE_MANIFEST(path)                     \
  __asm__(                                           \
      ".pushsection .note.backplane,\"a\",%note\n"   \
      ".balign 4\n"                                  \
      ".hidden backplane_manifest\n"                 \
      ".globl backplane_manifest\n"                  \
      "backplane_manifest:\n"                        \
      ".long 10\n"                                   \
      ".long .Lbackplane_end - .Lbackplane_begin\n"  \
      ".long 1\n"                                    \
      ".asciz \"Backplane\"\n"                       \
      ".balign 4\n"                                  \
      ".Lbackplane_begin:\n"                         \
      ".incbin \"" path "\"\n"                       \
      ".Lbackplane_end:\n"                           \
      ".balign 4\n"                                  \
      ".popsection\n");                              \
  extern const unsigned char backplane_manifest[];
/* clang-format on */

#endif
