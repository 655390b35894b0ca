// The little that outlives a view: choices remembered in this browser, and the collection that is open.

function box(storage) {
  return {
    get(key, fallback = null) {
      try {
        return storage().getItem(`distill.${key}`) ?? fallback;
      } catch {
        return fallback; // storage may be switched off
      }
    },
    set(key, value) {
      try {
        storage().setItem(`distill.${key}`, value);
      } catch {
        // then it is only forgotten
      }
    },
  };
}

export const remembered = box(() => localStorage);
export const thisTab = box(() => sessionStorage);

// Files the user left out, per collection id: kept when one goes to another view and back.
export const leftOut = new Map();

// What was typed into the train form, per collection id.
export const formValues = new Map();
