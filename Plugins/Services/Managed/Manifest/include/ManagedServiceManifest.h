/* Nothing to declare: the note is in the object file. */
